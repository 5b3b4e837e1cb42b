"""PubsubSource: a subscription pulled by StreamingPull; acknowledged by us, leases kept while we hold."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.futures import StreamingPullFuture
from google.cloud.pubsub_v1.subscriber.message import Message
from google.cloud.pubsub_v1.subscriber.scheduler import Scheduler

from pipeline.connectors.addresses import PubsubSubscription
from pipeline.connectors.base import Received
from pipeline.connectors.pubsub_client import (
    ANSWER_SECONDS,
    PUBSUB_ERRORS,
    Connectivity,
    explain,
    nearest_path,
)

#: A message that is held longer (a checkpoint that never completes) is delivered to somebody else.
_MAX_LEASE_SECONDS: Final = 3600.0
_CLOSE_SECONDS: Final = 10.0
_IDS_PER_REQUEST: Final = 1000


class PubsubSource:
    """A `PullSource` over one subscription.

    The client's threads fill a queue up to the address's `max_outstanding`; a message counts from
    its arrival until it is committed. Its lease is extended all that while.
    """

    def __init__(self, address: PubsubSubscription) -> None:
        self._address = address
        self._arrived: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._held: dict[str, Message] = {}  # ack id -> polled, not committed
        self._client: pubsub_v1.SubscriberClient | None = None
        self._stream: StreamingPullFuture | None = None
        self._connectivity: Connectivity | None = None

    def open(self, resume_from: Mapping[str, int] | None = None) -> None:
        """Connects. A subscription keeps its own place, so `resume_from` is ignored."""
        try:
            client = pubsub_v1.SubscriberClient()
            self._check(client)
        except PUBSUB_ERRORS as error:
            raise self._explained(error) from None
        self._client = client
        self._connectivity = Connectivity(client.transport.grpc_channel)
        self._stream = client.subscribe(
            self._address.path,
            self._arrived.put,  # in the client's thread; never waits
            flow_control=pubsub_v1.types.FlowControl(
                max_messages=self._address.max_outstanding,
                max_bytes=self._address.max_outstanding_bytes,
                max_lease_duration=_MAX_LEASE_SECONDS,
            ),
            scheduler=_SameThread(),
        )
        self._stream.add_done_callback(lambda ended: self._arrived.put(None))

    def poll(self, max_messages: int, timeout_seconds: float) -> Sequence[Received]:
        """What has come. Raises InputError or DeploymentError where the subscription or the access is gone."""
        messages = list(self._take(max_messages, timeout_seconds))
        for message in messages:
            self._held[message.ack_id] = message
        return [self._received(message) for message in messages]

    def commit(self, receipts: Sequence[str]) -> None:
        """Acknowledges, in the background; what the service does not hear in time comes again."""
        unknown = []
        for receipt in receipts:
            message = self._held.pop(receipt, None)
            if message is not None:
                message.ack()
            else:
                unknown.append(receipt)
        self._in_parts(unknown, self._acknowledge)

    def backlog(self) -> int | None:
        """None: the service does not tell subscribers (Cloud Monitoring has num_undelivered_messages)."""
        return None

    def close(self) -> None:
        """Returns all that is not committed, so that others get it at once."""
        if self._client is None or self._stream is None:
            return
        self._stream.cancel()
        with suppress(Exception):  # it ends as it was asked to, or with the error that ended it before
            self._stream.result(_CLOSE_SECONDS)
        # Only now: a stream that still runs would be given them again.
        self._in_parts([*self._held, *self._drained()], self._return)
        self._held.clear()
        if self._connectivity is not None:
            self._connectivity.stop()
        self._client.close()
        self._client = self._stream = self._connectivity = None

    def _check(self, client: pubsub_v1.SubscriberClient) -> None:
        from google.api_core.exceptions import Forbidden

        try:
            client.get_subscription(
                request={"subscription": self._address.path}, retry=None, timeout=ANSWER_SECONDS
            )
        except Forbidden:
            # A subscriber may pull and yet not look: then the pull itself tells.
            pull = {"subscription": self._address.path, "max_messages": 1, "return_immediately": True}
            for received in client.pull(request=pull, retry=None, timeout=ANSWER_SECONDS).received_messages:
                self._return(client, [received.ack_id])

    def _explained(self, error: BaseException) -> Exception:
        path = self._address.path
        remedy = f"create it: gcloud pubsub subscriptions create {self._address.subscription} --topic TOPIC"
        return explain(error, f"subscription {path}", f"{self._near()}{remedy}")

    def _near(self) -> str:
        try:
            with pubsub_v1.SubscriberClient() as client:
                project = f"projects/{self._address.project}"
                found = client.list_subscriptions(project=project, retry=None, timeout=ANSWER_SECONDS)
                return nearest_path(self._address.path, (each.name for each in found))
        except PUBSUB_ERRORS:
            return ""

    def _take(self, most: int, timeout_seconds: float) -> Iterator[Message]:
        deadline = time.monotonic() + timeout_seconds
        for taken in range(most):
            wait = deadline - time.monotonic()
            try:
                message = self._arrived.get(timeout=max(wait, 0)) if not taken else self._arrived.get_nowait()
            except queue.Empty:
                return
            if message is None:
                self._arrived.put(None)  # for the next poll, which has nothing else to give
                if not taken:
                    self._raise_end()
                return
            yield message

    def _raise_end(self) -> None:
        stream = self._stream
        if stream is None:
            raise RuntimeError("open() comes first")
        error = stream.exception(0)
        raise self._explained(error) if error is not None else RuntimeError("the pull ended by itself")

    def _received(self, message: Message) -> Received:
        return Received(
            message.data,
            f"pubsub:{self._address.subscription}:{message.message_id}",
            int(message.publish_time.timestamp() * 1_000_000),
            message.ack_id,
        )

    def _acknowledge(self, client: pubsub_v1.SubscriberClient, ack_ids: list[str]) -> None:
        client.acknowledge(subscription=self._address.path, ack_ids=ack_ids, timeout=ANSWER_SECONDS)

    def _return(self, client: pubsub_v1.SubscriberClient, ack_ids: list[str]) -> None:
        client.modify_ack_deadline(
            subscription=self._address.path,
            ack_ids=ack_ids,
            ack_deadline_seconds=0,
            retry=None,
            timeout=ANSWER_SECONDS,
        )

    def _in_parts(
        self, ack_ids: Sequence[str], tell: Callable[[pubsub_v1.SubscriberClient, list[str]], None]
    ) -> None:
        """Tells the service about messages; about those that it does not hear of, time tells it."""
        with suppress(*PUBSUB_ERRORS):
            for start in range(0, len(ack_ids), _IDS_PER_REQUEST):
                if self._client is not None:
                    tell(self._client, list(ack_ids[start : start + _IDS_PER_REQUEST]))

    def _drained(self) -> Iterator[str]:
        while True:
            try:
                message = self._arrived.get_nowait()
            except queue.Empty:
                return
            if message is not None:
                yield message.ack_id


class _SameThread(Scheduler):
    """Calls back in the thread that received: our callback never waits, so no pool of threads is needed."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @property
    def queue(self) -> Any:
        return self._requests

    def schedule(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        callback(*args, **kwargs)

    def shutdown(self, await_msg_callbacks: bool = False) -> list[Message]:
        return []
