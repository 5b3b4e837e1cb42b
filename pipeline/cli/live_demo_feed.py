"""How the feedback of the live demo reaches its job: by the Pub/Sub emulator, or in a folder that grows."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from models.errors import DeploymentError
from pipeline.pubsub_emulator import emulator_command, running_emulator

if TYPE_CHECKING:
    from rich.console import Console

_PROJECT: Final = "livelist-demo"
_TOPIC: Final = "feedback"


class Feed(Protocol):
    """Where events go, and what the job reads."""

    uri: str

    def send(self, lines: Sequence[bytes]) -> None:
        """Hands JSON lines over, in order or nearly so."""


class FolderFeed:
    """A file that grows."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.uri = str(folder)
        self._log = folder / "log.jsonl"

    def send(self, lines: Sequence[bytes]) -> None:
        with self._log.open("ab", buffering=0) as file:
            file.write(b"".join(lines))


class TopicFeed(AbstractContextManager["TopicFeed"]):
    """A topic and its subscription, at the Pub/Sub that the environment names; made here."""

    def __init__(self) -> None:
        from google.cloud import pubsub_v1

        self.uri = f"pubsub://{_PROJECT}/{_TOPIC}"
        batches = pubsub_v1.types.BatchSettings(max_messages=500, max_latency=0.005)
        self._publisher: Any = pubsub_v1.PublisherClient(batch_settings=batches)
        self._path = self._publisher.topic_path(_PROJECT, _TOPIC)
        self._publisher.create_topic(name=self._path)
        with pubsub_v1.SubscriberClient() as subscriber:
            name = subscriber.subscription_path(_PROJECT, _TOPIC)
            subscriber.create_subscription(name=name, topic=self._path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._publisher.stop()

    def send(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._publisher.publish(self._path, line.rstrip(b"\n"))


@contextmanager
def open_feed(folder: Path, console: Console) -> Iterator[Feed]:
    """The emulator where one is installed and starts, else a folder; says which. Ended at the end."""
    with ExitStack() as running:
        feed: Feed | None = None
        why = _why_no_emulator()
        if not why:
            try:
                address = running.enter_context(running_emulator(folder / "pubsub.log"))
                feed = running.enter_context(TopicFeed())
                how = f"through the Pub/Sub emulator at {address}"
            except DeploymentError as error:
                why = str(error)
        if feed is None:
            feed = FolderFeed(folder / "events")
            how = f"in a folder that grows ({why})"
        console.print(f"feedback comes {how}", soft_wrap=True)
        yield feed


def _why_no_emulator() -> str:
    if not emulator_command(1):
        return "the Cloud SDK's Pub/Sub emulator and Java are not both installed"
    try:
        found = importlib.util.find_spec("google.cloud.pubsub_v1") is not None
    except ModuleNotFoundError:
        found = False
    return "" if found else "a Pub/Sub emulator is installed, but not its client: pip install 'livelist[gcp]'"
