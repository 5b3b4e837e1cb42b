"""SuppressUnchanged: an endless run does not repeat a list that shows the same items in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, cast

import apache_beam as beam
import msgpack
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    ReadModifyWriteRuntimeState,
    ReadModifyWriteStateSpec,
    RuntimeTimer,
    TimerSpec,
    on_timer,
)
from apache_beam.transforms.window import GlobalWindow

from models.lists import decode_list, encode_list
from models.records import TopK
from transforms.live_store import live_store

SUPPRESSED: Final = "note.suppressed_unchanged"  # the code in the accounting
ORDER_BYTES: Final = 16  # of the hash that tells whether a list shows something new


@dataclass
class SuppressUnchanged(beam.PTransform):
    """PCollection[TopK] -> `lists` (TopK) and `accounting` (code, count).

    A list whose items and order equal the last one emitted for the user waits in the state;
    the newest that waits is emitted on drain, so that scores, reasons and versions end fresh.
    Endless runs only. An engine that fires timers early cannot know a drain: there `keep_in` names
    the run, the lists wait in this process, and the launcher asks `take_waiting` for them at the end.
    """

    keep_in: str = ""

    def expand(self, lists: beam.PCollection[TopK]) -> DoOutputsTuple:
        if self.keep_in:
            held = lists | "HoldUnchanged" >> _outputs(_HoldInProcess(self.keep_in))
        else:
            keyed = lists | "KeyListByUser" >> beam.Map(_by_user).with_output_types(tuple[str, bytes])
            held = keyed | "HoldUnchanged" >> _outputs(_HoldUnchanged())
        return held


def _outputs(hold: beam.DoFn) -> beam.PTransform:
    typed = beam.ParDo(hold).with_output_types(TopK, accounting=tuple[str, int])
    return typed.with_outputs("accounting", main="lists")


def _by_user(made: TopK) -> tuple[str, bytes]:
    return made.user_id, encode_list(made)


class _HoldUnchanged(beam.DoFn):
    """State: the order that was last emitted, and the list that waits, if one does."""

    SHOWN = ReadModifyWriteStateSpec("shown", BytesCoder())
    WAITING = ReadModifyWriteStateSpec("waiting", BytesCoder())
    DRAIN = TimerSpec("drain", TimeDomain.WATERMARK)
    _SHOWN = cast(ReadModifyWriteRuntimeState, beam.DoFn.StateParam(SHOWN))
    _WAITING = cast(ReadModifyWriteRuntimeState, beam.DoFn.StateParam(WAITING))
    _DRAIN = cast(RuntimeTimer, beam.DoFn.TimerParam(DRAIN))

    def process(
        self,
        element: tuple[str, bytes],
        shown: ReadModifyWriteRuntimeState = _SHOWN,
        waiting: ReadModifyWriteRuntimeState = _WAITING,
        drain: RuntimeTimer = _DRAIN,
    ) -> Iterator[TopK | TaggedOutput]:
        _, encoded = element
        made = decode_list(encoded)
        order = _order_of(made)
        if not made.tombstone and shown.read() == order:
            waiting.write(encoded)
            drain.set(GlobalWindow().max_timestamp())
            yield TaggedOutput("accounting", (SUPPRESSED, 1))
            return
        shown.write(order)
        waiting.clear()
        yield made

    @on_timer(DRAIN)
    def emit_waiting(self, waiting: ReadModifyWriteRuntimeState = _WAITING) -> Iterator[TopK]:
        encoded = waiting.read()
        if encoded:
            waiting.clear()
            yield decode_list(encoded)


class _HoldInProcess(beam.DoFn):
    """The same without a timer: what waits is with the process, which outlives the bundles."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def setup(self) -> None:
        self._store = live_store(self._run_id)

    def process(self, made: TopK) -> Iterator[TopK | TaggedOutput]:
        user_id, order, store = made.user_id, _order_of(made), self._store
        unchanged = not made.tombstone and store.shown.get(user_id, b"")[:ORDER_BYTES] == order
        # The index is that of the list that will be emitted at the latest.
        store.shown[user_id] = order + made.index_version.encode()
        if unchanged:
            store.waiting[user_id] = encode_list(made)
            yield TaggedOutput("accounting", (SUPPRESSED, 1))
            return
        store.waiting.pop(user_id, None)
        yield made


def take_waiting(run_id: str) -> list[TopK]:
    """The lists that wait in this process, by user_id; they wait no longer."""
    store = live_store(run_id)
    waiting, store.waiting = store.waiting, {}
    return [decode_list(waiting[user_id]) for user_id in sorted(waiting)]


def _order_of(made: TopK) -> bytes:
    """What is compared: one byte string per order of items, 16 bytes whatever their number."""
    return blake2b(msgpack.packb([item.item_id for item in made.items]), digest_size=ORDER_BYTES).digest()
