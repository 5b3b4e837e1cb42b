"""An endless job in a process of its own, watched through its metrics."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Final

from models.errors import LivelistError

_START: Final = "import sys; from pipeline.cli.main import main; sys.exit(main(sys.argv[1:]))"
_REPOSITORY: Final = Path(__file__).resolve().parents[2]


class BenchedJob(AbstractContextManager["BenchedJob"]):
    """`livelist run --streaming` from entering to leaving; leaving drains it."""

    def __init__(self, events: Path, output: Path, flags: Sequence[str] = (), start: str = _START) -> None:
        self.output = output
        self.port = _free_port()
        folders = ["--input", str(events), "--output", str(output), "--metrics_port", str(self.port)]
        self._command = [sys.executable, "-c", start, "run", "--streaming", *folders, *flags]
        self._job: subprocess.Popen[bytes] | None = None
        self.said = ""

    def __enter__(self) -> BenchedJob:
        path = os.pathsep.join(part for part in (str(_REPOSITORY), os.environ.get("PYTHONPATH", "")) if part)
        self._job = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._job is not None
        if self._job.poll() is None:
            self._job.send_signal(signal.SIGINT if kind is None else signal.SIGKILL)
        out, _ = self._job.communicate()
        self.said = out.decode()
        if kind is None and self._job.returncode:
            raise LivelistError(f"the job ended with {self._job.returncode}: {self.said[-2_000:]}")

    @property
    def pid(self) -> int:
        assert self._job is not None
        return self._job.pid

    def metrics(self) -> dict[str, float]:
        """Sample -> value, labels as in the text format; empty while the job starts."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return {}
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
        }

    def records(self) -> float:
        """That the bundles that are done have read."""
        return self.metrics().get('livelist_records_total{account="input"}', 0.0)

    def await_that(self, reached: Callable[[], object], seconds: float) -> bool:
        """Whether it came to pass in time; raises LivelistError where the job ended."""
        assert self._job is not None
        deadline = time.monotonic() + seconds
        while not reached():
            if self._job.poll() is not None:
                raise LivelistError(f"the job ended with {self._job.returncode}")
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
