"""SuppressUnchanged: an endless run does not repeat a list that shows the same items in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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

SUPPRESSED: Final = "note.suppressed_unchanged"  # the code in the accounting


@dataclass
class SuppressUnchanged(beam.PTransform):
    """PCollection[TopK] -> `lists` (TopK) and `accounting` (code, count).

    A list whose items and order equal the last one emitted for the user waits in the state;
    the newest that waits is emitted on drain, so that scores, reasons and versions end fresh.
    Endless runs only.
    """

    def expand(self, lists: beam.PCollection[TopK]) -> DoOutputsTuple:
        return (
            lists
            | "KeyListByUser" >> beam.Map(_by_user).with_output_types(tuple[str, bytes])
            | "HoldUnchanged"
            >> beam.ParDo(_HoldUnchanged())
            .with_output_types(TopK, accounting=tuple[str, int])
            .with_outputs("accounting", main="lists")
        )


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
        order = msgpack.packb([item.item_id for item in made.items])
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
