"""Processes that outlive who started them, told apart from strangers that got the same number later."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_POLL_SECONDS: Final = 0.05
_WATCH_SECONDS: Final = 0.5
_RUNNING_STATES: Final = frozenset("RSDTtIW")


@dataclass(frozen=True, slots=True)
class Process:
    """One process, the leader of a session of its own."""

    name: str
    pid: int
    born: int  # clock ticks since boot; with the pid, it names the process for good

    @property
    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        return _born(self.pid) == self.born

    def save(self, folder: Path) -> None:
        """Writes it where `saved` finds it."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{self.name}.partial"
        partial.write_text(json.dumps(asdict(self)))
        os.replace(partial, folder / f"{self.name}.json")


def start(
    name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> tuple[Process, subprocess.Popen[bytes]]:
    """Starts a process in a session of its own; all that it says goes to the end of `log`.

    Raises OSError where the program is not there.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        started = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(os.environ if environment is None else environment),
            start_new_session=True,
        )
    return Process(name, started.pid, _born(started.pid) or 0), started


def saved(folder: Path) -> dict[str, Process]:
    """The processes that were saved in a folder, by name, alive or not."""
    found = (_read(path) for path in sorted(folder.glob("*.json")))
    return {process.name: process for process in found if process is not None}


def end(processes: Sequence[Process], grace_seconds: float = 10.0) -> list[Process]:
    """Ends processes and all in their sessions: asks first, kills later. Returns those it had to kill."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and any(process.alive for process in processes):
        time.sleep(_POLL_SECONDS)
    stubborn = [process for process in processes if process.alive]
    for process in processes:  # what a leader leaves behind goes too
        _signal(process, signal.SIGKILL)
    while any(process.alive for process in processes):
        time.sleep(_POLL_SECONDS)
    return stubborn


def end_with_parent() -> None:
    """Ends this process when the one that started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def free_port(wanted: int = 0) -> int:
    """A port on loopback that nobody listens on: the wanted one, or any. Raises OSError when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        port: int = probe.getsockname()[1]
        return port


def listening(port: int) -> bool:
    """Whether somebody listens there on loopback."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _signal(process: Process, number: signal.Signals) -> None:
    """To the whole session, as long as its number cannot be somebody else's."""
    if process.alive or (_born(process.pid) is None and _members(process.pid)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _members(group: int) -> list[int]:
    """The running processes of a group; their leader's number is not given anew while there is one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) and int(stat[2]) == group:
            found.append(int(entry.name))
    return found


def _born(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[19]) if stat else None


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the name, from the state on; None where nothing runs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields if fields[0] in _RUNNING_STATES else None


def _read(path: Path) -> Process | None:
    try:
        return Process(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
