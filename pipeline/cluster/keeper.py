"""Keeps the processes of a cluster running: `python -m pipeline.cluster.keeper FOLDER [PARENT_PID]`.

Each file of `<folder>/kept/` is one process, {"name", "command"}; it runs while the file is there. One
that dies is started again, after a rest that grows while it keeps dying. SIGTERM ends all of them;
so does the end of the parent, where one is given.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from pipeline.cluster.processes import Process, end, start
from pipeline.cluster.settings import environment, load_settings

KEPT: Final = "kept"
RUNNING: Final = "running"
KEEPER: Final = "keeper"
_POLL_SECONDS: Final = 0.2
_LONGEST_REST_SECONDS: Final = 30.0
_HEALTHY_SECONDS: Final = 60.0


@dataclass
class _Kept:
    process: Process
    handle: subprocess.Popen[bytes]
    started: float
    rest: float = 0.5  # before it is started again
    due: float | None = None  # when it is


class Keeper:
    """The processes of one cluster."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings = load_settings(folder)
        self._environment = environment(self._settings)
        self._kept: dict[str, _Kept] = {}
        self.stopped = False

    def step(self) -> None:
        """Starts what is to run, ends what is not, starts again what has died."""
        wanted = {path.stem: path for path in sorted((self._folder / KEPT).glob("*.json"))}
        for name in set(self._kept) - set(wanted):
            self._end([name])
        for name, path in wanted.items():
            if name not in self._kept:
                self._start(name, path)
            elif self._kept[name].handle.poll() is not None:
                self._start_again(name, path)

    def end_all(self) -> None:
        """Ends everything; the jobs' helpers first, then the cluster."""
        names = sorted(self._kept)
        self._end([name for name in names if name.startswith("job-")])
        self._end(list(self._kept))

    def _start(self, name: str, path: Path, rest: float = 0.5) -> None:
        try:
            command = json.loads(path.read_text())["command"]
            process, handle = start(name, command, self._settings.logs / f"{name}.log", self._environment)
        except (OSError, ValueError, KeyError) as error:
            print(f"{name} was not started: {error}", flush=True)
            return
        process.save(self._folder / RUNNING)
        self._kept[name] = _Kept(process, handle, time.monotonic(), rest)
        print(f"{name} started, pid {process.pid}", flush=True)

    def _start_again(self, name: str, path: Path) -> None:
        kept, now = self._kept[name], time.monotonic()
        if kept.due is None:
            lived = now - kept.started
            kept.rest = 0.5 if lived > _HEALTHY_SECONDS else kept.rest
            kept.due = now + kept.rest
            print(f"{name} ended with {kept.handle.returncode} after {lived:.0f} s", flush=True)
        elif now >= kept.due:
            end([kept.process], 0.0)  # what it left behind in its session
            self._start(name, path, min(kept.rest * 2, _LONGEST_REST_SECONDS))

    def _end(self, names: list[str]) -> None:
        end([self._kept[name].process for name in names])
        for name in names:
            self._kept.pop(name).handle.wait()
            (self._folder / RUNNING / f"{name}.json").unlink(missing_ok=True)


def keep(folder: Path, parent: int | None) -> None:
    """Until SIGTERM, or until the parent is gone."""
    keeper = Keeper(folder)

    def stop(number: int, frame: FrameType | None) -> None:
        keeper.stopped = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while not keeper.stopped and (parent is None or os.getppid() == parent):
            keeper.step()
            time.sleep(_POLL_SECONDS)
    finally:
        keeper.end_all()


if __name__ == "__main__":
    keep(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
