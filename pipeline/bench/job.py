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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from models.errors import LivelistError
from pipeline.bench.usage import Usage, usage_of
from pipeline.live.freshness import BOUNDS

START: Final = "import sys; from pipeline.cli.main import main; sys.exit(main(sys.argv[1:]))"
_ANSWER_SECONDS: Final = 30.0
_REPOSITORY: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Look:
    """A job at a moment."""

    time: float  # seconds since 1970
    samples: dict[str, float]
    usage: Usage

    def of(self, name: str) -> float:
        """A sample; 0 where the job does not tell it."""
        return self.samples.get(name, 0.0)

    @property
    def records(self) -> float:
        """That the bundles that are done have read."""
        return self.of('livelist_records_total{account="input"}')

    @property
    def accepted(self) -> float:
        """Of these, what counts."""
        begin = 'livelist_records_total{account="accepted.'
        return sum(count for name, count in self.samples.items() if name.startswith(begin))

    @property
    def accepted_behaviour(self) -> float:
        """Of what counts, the events without words."""
        return self.of('livelist_records_total{account="accepted.without_text"}')

    @property
    def served(self) -> float:
        """Events whose list is there, words with their scores."""
        return self.behaviour + self.words

    @property
    def behaviour(self) -> float:
        """Of these, the ones without words."""
        return self.ages("behaviour")[-1]

    @property
    def words(self) -> float:
        """Of these, the ones with words."""
        return self.ages("words")[-1]

    def ages(self, feedback: str) -> list[float]:
        """The cumulative histogram of behaviour or words."""
        name = "livelist_event_freshness_seconds_bucket"
        bounds = (*map(str, BOUNDS), "+Inf")
        return [self.of(f'{name}{{le="{bound}",feedback="{feedback}"}}') for bound in bounds]


class BenchedJob(AbstractContextManager["BenchedJob"]):
    """`livelist run --streaming` from entering to leaving; leaving drains it."""

    def __init__(self, events: Path, output: Path, flags: Sequence[str] = (), start: str = START) -> None:
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

    def look(self) -> Look:
        """What the job tells of itself at this moment; raises LivelistError where it does not answer."""
        found: list[dict[str, float]] = []

        def answered() -> bool:
            found.append(self.metrics())
            return bool(found[-1])

        if not self.await_that(answered, _ANSWER_SECONDS):
            raise LivelistError(f"the job did not tell its metrics in {_ANSWER_SECONDS:.0f} s")
        return Look(time.time(), found[-1], usage_of(self.pid))

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
