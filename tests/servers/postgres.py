"""A private PostgreSQL cluster on loopback, from Debian's packages: `python -m tests.servers.postgres`."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers.processes import (
    Process,
    ServerMissing,
    free_port,
    running,
    serve_until_interrupted,
    wait_until,
)

#: The server refuses to run as root; then it runs as one of these.
_USERS: Final = ("postgres", "nobody")


class PostgresServer:
    """A cluster whose data survive `stop` and `kill`; `start` brings it back on the same port."""

    def __init__(self, folder: Path) -> None:
        self._programs = _programs()
        self._data = folder / "data"
        self._log = folder / "postgres.log"
        self._process: Process | None = None
        self._user = _unprivileged()
        self.port = free_port()
        self.uri = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._give(folder)
        self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8"
        )

    def start(self) -> None:
        """Returns when it answers."""
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [f"{self._programs}/postgres", "-D", str(self._data), "-p", str(self.port), *flags]
        self._process = Process(_as_user(self._user, command), self._log)
        wait_until(self._ready, 30, "PostgreSQL", self._process)

    def kill(self) -> None:
        """As a power cut stops it, but for the disk's cache."""
        if self._process is not None:
            self._process.stop(5)  # SIGTERM would wait for clients to leave; `stop` then kills
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _ready(self) -> bool:
        command = [f"{self._programs}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = _as_user(self._user, [f"{self._programs}/{program}", *arguments])
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr[-500:]}")

    def _give(self, folder: Path) -> None:
        if self._user:
            shutil.chown(folder, self._user)


def why_not() -> str:
    """What this machine lacks to run one; empty where it can."""
    try:
        _programs()
    except ServerMissing as missing:
        return str(missing)
    return ""


def _programs() -> str:
    debian = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    for folder in (*debian, os.path.dirname(shutil.which("initdb") or "")):
        if folder and all(
            os.path.exists(f"{folder}/{name}") for name in ("initdb", "postgres", "pg_isready")
        ):
            return folder
    raise ServerMissing("PostgreSQL's server is missing (apt-get install postgresql)")


def _unprivileged() -> str:
    if os.geteuid() != 0:
        return ""
    for name in _USERS:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise ServerMissing(f"PostgreSQL does not run as root, and there is no user {' or '.join(_USERS)}")


def _as_user(user: str, command: list[str]) -> list[str]:
    return ["setpriv", f"--reuid={user}", "--clear-groups", *command] if user else command


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A cluster that answers, and is gone afterwards."""
    with running(PostgresServer, "postgres") as server:
        yield server


def main() -> None:
    """Runs until interrupted; the first line is its URI."""
    with postgres_server() as server:
        serve_until_interrupted(server.uri)


if __name__ == "__main__":
    main()
