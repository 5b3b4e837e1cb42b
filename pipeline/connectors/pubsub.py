"""PubsubSource: a subscription pulled by StreamingPull; acknowledged by us, leases kept while we hold.

Two threads of its own: one reads the stream into a bounded queue and opens it again when it breaks,
one acknowledges what was committed and extends the leases of the rest. The client library's own
subscriber is not used: it resets its stream when it ends, after which the emulator goes on giving
messages to nobody, and it offers no word of whether an acknowledgement went out.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from google.api_core.exceptions import Forbidden
from google.cloud import pubsub_v1
from google.pubsub_v1.types import StreamingPullRequest

from models.errors import InputError
from models.records import Micros
from pipeline.connectors.addresses import PubsubSubscription
from pipeline.connectors.base import Received
from pipeline.connectors.pubsub_client import (
    ANSWER_SECONDS,
    PUBSUB_ERRORS,
    Connectivity,
    explain,
    may_pass,
    nearest_path,
)
from pipeline.connectors.pubsub_leases import LEASE_SECONDS, Leases, set_deadline

_KEEP_ALIVE_SECONDS: Final = 20.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
#: An error that stays so long, though it cannot pass by itself, ends the source.
_PATIENCE_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 3.0


class PubsubSource:
    """A `PullSource` over one subscription.

    A message counts against the address's limits from its arrival until it is committed; at the
    limit nothing is read from the stream.
    """

    def __init__(self, address: PubsubSubscription) -> None:
        self._address = address
        self._running: _Running | None = None

    def open(self, resume_from: Mapping[str, int] | None = None) -> None:
        """Connects. A subscription keeps its own place, so `resume_from` is ignored."""
        try:
            client = pubsub_v1.SubscriberClient()
            _check(client, self._address)
        except PUBSUB_ERRORS as error:
            raise _explained(self._address, error) from None
        self._running = _Running(client, self._address)

    def poll(self, max_messages: int, timeout_seconds: float) -> Sequence[Received]:
        """What has come. Raises InputError or DeploymentError where subscription or access are gone."""
        return self._open().take(max_messages, timeout_seconds)

    def commit(self, receipts: Sequence[str]) -> None:
        """Acknowledges, within milliseconds; tried again until the lease ends where the service is away.

        What is not committed within `pubsub_leases.MAX_LEASE_SECONDS` is given to others.
        """
        self._open().leases.commit(receipts)

    def backlog(self) -> int | None:
        """None: the service does not tell subscribers (Cloud Monitoring has num_undelivered_messages)."""
        return None

    def oldest_held(self) -> Micros | None:
        """When the oldest message that this connection holds was published, by the service's clock."""
        return self._open().leases.oldest()

    def close(self) -> None:
        """Sends what is still to acknowledge and returns the rest, so that others get it at once."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _open(self) -> _Running:
        if self._running is None:
            raise RuntimeError("open() comes first")
        return self._running


class _Running:
    """The connection and its two threads."""

    def __init__(self, client: pubsub_v1.SubscriberClient, address: PubsubSubscription) -> None:
        self.leases = Leases(client, address)
        self._client = client
        self._address = address
        self._known_as = address.known_as or address.subscription
        self._arrived: queue.SimpleQueue[Received | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._hang_up = threading.Event()  # of the stream that is open now
        self._call: Any = None
        self._error: BaseException | None = None
        self._connectivity = Connectivity(client.transport.grpc_channel)
        self._threads = (
            threading.Thread(target=self._pull, name="pubsub-pull", daemon=True),
            threading.Thread(target=self.leases.keep, name="pubsub-leases", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def take(self, most: int, timeout_seconds: float) -> list[Received]:
        taken: list[Received] = []
        with suppress(queue.Empty):
            while len(taken) < most:
                message = self._arrived.get_nowait() if taken else self._arrived.get(timeout=timeout_seconds)
                if message is None:
                    self._arrived.put(None)  # for the next call
                    if taken:
                        break
                    raise _explained(self._address, self._error or RuntimeError("closed"))
                taken.append(message)
        return taken

    def stop(self) -> None:
        self._stop.set()
        self._hang_up.set()
        self.leases.stop_waiting()
        pull, keep = self._threads
        pull.join(_CLOSE_SECONDS)
        if pull.is_alive() and self._call is not None:
            self._call.cancel()
            pull.join(_CLOSE_SECONDS)
        self.leases.end()
        keep.join(_CLOSE_SECONDS)
        self._connectivity.stop()
        self._client.close()

    def _pull(self) -> None:
        pause, hopeless_since = _FIRST_PAUSE_SECONDS, float("inf")
        while not self._stop.is_set():
            try:
                for response in self._stream():
                    pause, hopeless_since = _FIRST_PAUSE_SECONDS, float("inf")
                    self._take_in(response)
                    if self._stop.is_set():
                        break
            except PUBSUB_ERRORS as error:
                hopeless_since = float("inf") if may_pass(error) else min(hopeless_since, time.monotonic())
                if time.monotonic() - hopeless_since > _PATIENCE_SECONDS:
                    self._error = error
                    break
            self._hang_up.set()
            self._stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        self._arrived.put(None)

    def _stream(self) -> Any:
        self._hang_up = threading.Event()
        if self._stop.is_set():
            self._hang_up.set()
        requests = _requests(self._address, self._hang_up)
        self._call = self._client.streaming_pull(requests=requests, retry=None, timeout=None)
        return self._call

    def _take_in(self, response: Any) -> None:
        # The message below the wrapper: its fields are much quicker to read.
        for each in response._pb.received_messages:
            sent = each.message.publish_time
            published = sent.seconds * 1_000_000 + sent.nanos // 1000
            self.leases.hold(each.ack_id, len(each.message.data), published)
            self._arrived.put(
                Received(
                    each.message.data,
                    f"pubsub:{self._known_as}:{each.message.message_id}",
                    published,
                    each.ack_id,
                )
            )
        self.leases.wait_for_room()


def _requests(address: PubsubSubscription, hang_up: threading.Event) -> Iterator[StreamingPullRequest]:
    """What we say on a stream: what we want, now and then that we are there; its end ends the stream."""
    yield StreamingPullRequest(
        subscription=address.path,
        stream_ack_deadline_seconds=LEASE_SECONDS,
        max_outstanding_messages=address.max_outstanding,
        max_outstanding_bytes=address.max_outstanding_bytes,
    )
    while not hang_up.wait(_KEEP_ALIVE_SECONDS):
        yield StreamingPullRequest()


def _check(client: pubsub_v1.SubscriberClient, address: PubsubSubscription) -> None:
    """Raises where it cannot be pulled, or is to another topic than the one that its messages are told by."""
    try:
        read, known = (
            client.get_subscription(subscription=path, retry=None, timeout=ANSWER_SECONDS).topic
            for path in (address.path, address.known_path)
        )
        if read != known:
            raise InputError(
                f"texts={address.subscription} is a subscription to {read}, and {address.known_as} to "
                f"{known}: words are read from another subscription to the same topic"
            )
    except Forbidden:
        # A subscriber may pull and yet not look: then the pull itself tells.
        request = {"subscription": address.path, "max_messages": 1, "return_immediately": True}
        found = client.pull(request=request, retry=None, timeout=ANSWER_SECONDS)
        if taken := [each.ack_id for each in found.received_messages]:
            set_deadline(client, address, taken, 0)


def _explained(address: PubsubSubscription, error: BaseException) -> Exception:
    remedy = f"create it: gcloud pubsub subscriptions create {address.subscription} --topic TOPIC"
    return explain(error, f"subscription {address.path}", remedy, lambda: _near(address))


def _near(address: PubsubSubscription) -> str:
    try:
        with pubsub_v1.SubscriberClient() as client:
            project = f"projects/{address.project}"
            found = client.list_subscriptions(project=project, retry=None, timeout=ANSWER_SECONDS)
            return nearest_path(address.path, (each.name for each in found))
    except PUBSUB_ERRORS:
        return ""
