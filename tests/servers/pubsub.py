"""A Pub/Sub on loopback: `python -m tests.servers.pubsub PROJECT TOPIC:SUBSCRIPTION`.

The emulator of the Cloud SDK where it is installed; else the in-memory server that comes with
Google's Go client, built once with Go. Neither keeps messages when it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from google.api_core.exceptions import AlreadyExists
from google.cloud import pubsub_v1

from pipeline.pubsub_emulator import EMULATOR_VARIABLE, emulator_command
from tests.servers.processes import (
    CACHE,
    Process,
    ServerMissing,
    free_port,
    listens,
    running,
    serve_until_interrupted,
    wait_until,
)

_SOURCE: Final = Path(__file__).with_name("pubsub_emulator")
_BUILT: Final = CACHE / "pubsub-emulator-2.7.0"


class PubsubServer:
    """A server that forgets everything when it ends; `start` brings it back on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._command = emulator_command(self._port) or _built_command(self._port)
        self.address = f"127.0.0.1:{self._port}"
        self._process: Process | None = None

    def start(self) -> None:
        """Returns when it listens."""
        self._process = Process(self._command, self._folder / "pubsub.log")
        wait_until(lambda: listens(self._port), 180, "the Pub/Sub server", self._process)

    def kill(self) -> None:
        """With all that it holds."""
        if self._process is not None:
            self._process.kill()


def why_not() -> str:
    """What this machine lacks to run one; empty where it can."""
    if emulator_command(1) or _BUILT.exists() or shutil.which("go"):
        return ""
    return "Go (1.25 or later) is missing, and so is the Cloud SDK's Pub/Sub emulator"


def create_subscription(project: str, topic: str, subscription: str = "", **settings: Any) -> None:
    """Makes a topic and a subscription to it, in the server that the environment names."""
    with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
        path = publisher.topic_path(project, topic)
        try:
            publisher.create_topic(name=path)
        except AlreadyExists:
            pass
        if subscription:
            name = subscriber.subscription_path(project, subscription)
            wanted = {"name": name, "topic": path, "ack_deadline_seconds": 10, **settings}
            subscriber.create_subscription(request=wanted)


def _built_command(port: int) -> list[str]:
    return [str(_build()), "-listen", f"127.0.0.1:{port}"]


def _build() -> Path:
    """The built server. Raises ServerMissing."""
    if _BUILT.exists():
        return _BUILT
    if reason := why_not():
        raise ServerMissing(reason)
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = CACHE / f".pubsub-emulator-{os.getpid()}"
    build = ["go", "build", "-ldflags", "-s -w", "-o", str(partial), "."]
    done = subprocess.run(build, cwd=_SOURCE, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise ServerMissing(f"Go could not build the Pub/Sub server: {done.stderr[-400:]}")
    partial.rename(_BUILT)
    return _BUILT


@contextmanager
def pubsub_server() -> Iterator[PubsubServer]:
    """A server that the environment of this process names, gone afterwards."""
    before = os.environ.get(EMULATOR_VARIABLE)
    with running(PubsubServer, "pubsub") as server:
        try:
            os.environ[EMULATOR_VARIABLE] = server.address
            yield server
        finally:
            os.environ.pop(EMULATOR_VARIABLE, None)
            if before is not None:
                os.environ[EMULATOR_VARIABLE] = before


def main() -> None:
    """Runs until interrupted; the first line is what to export. Arguments: PROJECT TOPIC:SUBSCRIPTION..."""
    with pubsub_server() as server:
        for pair in sys.argv[2:]:
            topic, _, subscription = pair.partition(":")
            create_subscription(sys.argv[1], topic, subscription)
        serve_until_interrupted(f"export {EMULATOR_VARIABLE}={server.address}")


if __name__ == "__main__":
    main()
