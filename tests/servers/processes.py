"""What every server here shares: a free port, a process of its own, waiting for it, and its log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, Protocol, TypeVar

#: What is fetched or built once and used by every later start.
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "livelist"


class Server(Protocol):
    """What can be had while it is needed."""

    def start(self) -> None:
        """Returns when it answers."""

    def kill(self) -> None:
        """It is gone."""


_Server = TypeVar("_Server", bound=Server)


@contextmanager
def running(make: Callable[[Path], _Server], name: str) -> Iterator[_Server]:
    """A server in a folder of its own that answers; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"livelist-{name}-") as folder:
        server = make(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()


def serve_until_interrupted(told: str) -> None:
    """Says where a server is to be found, and waits for a Ctrl-C or a `kill`."""

    def asked(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts a command with & deaf to the first
        signal.signal(number, asked)
    print(told, flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass


class ServerMissing(Exception):
    """A server cannot be had on this machine; the text says what to install."""


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def wait_until(
    reached: Callable[[], bool], seconds: float, what: str, process: Process | None = None
) -> None:
    """Waits until it is so. Raises TimeoutError, or RuntimeError with the log where the process died."""
    deadline = time.monotonic() + seconds
    while not reached():
        if process is not None and not process.alive():
            raise RuntimeError(f"{what}: the process ended\n{process.log_tail()}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s\n{process.log_tail() if process else ''}")
        time.sleep(0.05)


class Process:
    """One child process that writes to a log file; ends with the session at the latest."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self._log = log
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env and {**os.environ, **env}
            )

    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.poll() is None

    def log_tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

    def kill(self) -> None:
        """SIGKILL: it can save nothing."""
        self._end(signal.SIGKILL, 10)

    def stop(self, seconds: float = 20) -> None:
        """SIGTERM, and SIGKILL where that is not heard in time."""
        self._end(signal.SIGTERM, seconds)

    def _end(self, number: signal.Signals, seconds: float) -> None:
        if self.alive():
            self._child.send_signal(number)
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(10)
