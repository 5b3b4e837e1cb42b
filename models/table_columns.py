"""Records to Arrow, a batch at a time: no row is ever a dict on the way to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Final, Generic, Protocol, TypeVar

import pyarrow as pa

from models.records import DeadLetter, Micros, RankedItem, Reason, TextScore, TopK
from models.tables import (
    ITEMS,
    REASONS,
    SCHEMAS,
    WRITTEN_TIME,
    AlertRow,
    QualityRow,
    ScoredRow,
    TrendRow,
)

_TIME: Final = pa.timestamp("us", tz="UTC")
_STRINGS: Final = SCHEMAS["recommendations"].field("trigger_event_ids").type
_SENTIMENT: Final = SCHEMAS["scored_feedback"].field("sentiment").type
_TOPICS: Final = SCHEMAS["scored_feedback"].field("topics").type

Record = TypeVar("Record")


def table_from_records(
    name: str, records: Sequence[object], run_id: str = "", written: Micros | None = None
) -> pa.Table:
    """The rows of `records`, in their order, under the schema of table `name`; `written` stamps lists.

    `recommendations` takes TopK, `scored_feedback` ScoredRow, `trends` TrendRow, `alerts` AlertRow,
    `quality` QualityRow (stamped with `run_id`), `dead_letters` and `quarantine` DeadLetter.
    `recommendations_latest` is derived from `recommendations`: see models.latest.
    Raises TypeError on another record.
    """
    columns = _BUILDERS[name].build(name, records, run_id)
    if WRITTEN_TIME.name in SCHEMAS[name].names:
        columns.append(_times([written] * len(records)))
    return pa.Table.from_arrays(columns, schema=SCHEMAS[name])


class _AnyBuilder(Protocol):
    def build(self, name: str, records: Sequence[object], run_id: str) -> list[pa.Array]: ...


@dataclass(frozen=True)
class _Builder(Generic[Record]):
    record_type: type[Record]
    columns: Callable[[Sequence[Record], str], list[pa.Array]]

    def build(self, name: str, records: Sequence[object], run_id: str) -> list[pa.Array]:
        typed = [record for record in records if isinstance(record, self.record_type)]
        if len(typed) < len(records):
            other = next(record for record in records if not isinstance(record, self.record_type))
            raise TypeError(f"table {name} takes {self.record_type.__name__}, got {type(other).__name__}")
        return self.columns(typed, run_id)


def _topk_columns(lists: Sequence[TopK], run_id: str) -> list[pa.Array]:
    return [
        _strings(top.user_id for top in lists),
        pa.array([top.state_version for top in lists], pa.int64()),
        _list_of(ITEMS, [top.items for top in lists], _item_columns),
        _times([top.event_time for top in lists]),
        _times([top.scored_time for top in lists]),
        _times([top.emitted_time for top in lists]),
        _times([top.window_end for top in lists]),
        _strings(top.model_version for top in lists),
        _strings(top.index_version for top in lists),
        _string_lists([top.trigger_event_ids for top in lists]),
        _strings(top.list_hash for top in lists),
        pa.array([top.tombstone for top in lists], pa.bool_()),
        pa.array([top.hindsight for top in lists], pa.bool_()),
    ]


def _item_columns(items: Sequence[RankedItem]) -> list[pa.Array]:
    return [
        pa.array([item.rank for item in items], pa.int32()),
        _strings(item.item_id for item in items),
        pa.array([item.score for item in items], pa.float64()),
        _list_of(REASONS, [item.reasons for item in items], _reason_columns),
    ]


def _reason_columns(reasons: Sequence[Reason]) -> list[pa.Array]:
    return [
        _strings(reason.code for reason in reasons),
        _string_lists([reason.event_ids for reason in reasons]),
        pa.array([reason.contribution for reason in reasons], pa.float64()),
        _strings(reason.text for reason in reasons),
    ]


def _scored_columns(rows: Sequence[ScoredRow], run_id: str) -> list[pa.Array]:
    scores = [row.score for row in rows]
    return [
        _strings(row.event_id for row in rows),
        _strings(row.user_id for row in rows),
        _strings(row.kind for row in rows),
        _strings(row.item_id for row in rows),
        _times([row.event_time for row in rows]),
        pa.array([row.rating for row in rows], pa.float64()),
        _sentiments(scores),
        pa.array([score and score.polarity for score in scores], pa.float64()),
        pa.array([score and score.intensity for score in scores], pa.float64()),
        pa.array([score and score.confidence for score in scores], pa.float64()),
        _list_of(_TOPICS, [None if score is None else score.topics for score in scores], _topic_columns),
        _strings(None if score is None else score.intent for score in scores),
        _strings(None if score is None else score.language for score in scores),
        pa.array([row.weight for row in rows], pa.float64()),
        pa.array([row.conflict for row in rows], pa.bool_()),
        _strings(None if score is None else score.model_version for score in scores),
        _strings(row.source_position for row in rows),
    ]


def _sentiments(scores: Sequence[TextScore | None]) -> pa.Array:
    missing = pa.array([score is None for score in scores], pa.bool_())
    columns = [
        pa.array([0.0 if score is None else score.sentiment[place] for score in scores], pa.float64())
        for place in range(3)
    ]
    return pa.StructArray.from_arrays(columns, fields=list(_SENTIMENT), mask=missing)


def _topic_columns(topics: Sequence[tuple[str, float]]) -> list[pa.Array]:
    return [_strings(name for name, _ in topics), pa.array([score for _, score in topics], pa.float64())]


def _trend_columns(rows: Sequence[TrendRow], run_id: str) -> list[pa.Array]:
    return [
        _times([row.window_start for row in rows]),
        _times([row.window_end for row in rows]),
        _strings(row.subject_kind for row in rows),
        _strings(row.subject for row in rows),
        pa.array([row.count for row in rows], pa.int64()),
        pa.array([row.texts for row in rows], pa.int64()),
        pa.array([row.mean_polarity for row in rows], pa.float64()),
        pa.array([row.polarity_deviation for row in rows], pa.float64()),
        pa.array([row.rated_texts for row in rows], pa.int64()),
        pa.array([row.conflicts for row in rows], pa.int64()),
    ]


def _alert_columns(rows: Sequence[AlertRow], run_id: str) -> list[pa.Array]:
    return [
        _strings(row.kind for row in rows),
        _strings(row.subject_kind for row in rows),
        _strings(row.subject for row in rows),
        _times([row.time for row in rows]),
        _strings(row.evidence for row in rows),
    ]


def _quality_columns(rows: Sequence[QualityRow], run_id: str) -> list[pa.Array]:
    return [
        _strings([run_id] * len(rows)),
        _times([row.window_start for row in rows]),
        _times([row.window_end for row in rows]),
        _strings(row.check for row in rows),
        pa.array([row.value for row in rows], pa.float64()),
        pa.array([row.threshold for row in rows], pa.float64()),
    ]


def _rejected_columns(rows: Sequence[DeadLetter], run_id: str) -> list[pa.Array]:
    return [
        _strings(row.stage for row in rows),
        _strings(row.error_code for row in rows),
        _strings(row.reason for row in rows),
        _strings(row.payload for row in rows),
        _strings(row.source_position for row in rows),
        _times([row.time for row in rows]),
    ]


_BUILDERS: Final[dict[str, _AnyBuilder]] = {
    "recommendations": _Builder(TopK, _topk_columns),
    "scored_feedback": _Builder(ScoredRow, _scored_columns),
    "trends": _Builder(TrendRow, _trend_columns),
    "alerts": _Builder(AlertRow, _alert_columns),
    "quality": _Builder(QualityRow, _quality_columns),
    "dead_letters": _Builder(DeadLetter, _rejected_columns),
    "quarantine": _Builder(DeadLetter, _rejected_columns),
}


def _times(values: Sequence[int | None]) -> pa.Array:
    return pa.array(values, _TIME)


def _strings(values: Iterable[str | None]) -> pa.Array:
    kept = list(values)
    try:
        return pa.array(kept, pa.string())
    except UnicodeEncodeError:  # JSON may carry half a surrogate pair, which no UTF-8 file can hold
        return pa.array([_valid(value) for value in kept], pa.string())


def _valid(value: str | None) -> str | None:
    return None if value is None else value.encode("utf-8", "replace").decode()


def _string_lists(values: Sequence[Sequence[str]]) -> pa.Array:
    return _nest(_STRINGS, values, _strings(chain.from_iterable(values)))


def _list_of(
    kind: pa.DataType,
    values: Sequence[Sequence[Record] | None],
    columns: Callable[[Sequence[Record]], list[pa.Array]],
) -> pa.Array:
    flat = [element for value in values if value for element in value]
    return _nest(kind, values, pa.StructArray.from_arrays(columns(flat), fields=list(kind.value_type)))


def _nest(kind: pa.DataType, values: Sequence[Sequence[object] | None], flat: pa.Array) -> pa.Array:
    ends = list(accumulate((len(value) if value else 0 for value in values), initial=0))
    offsets = pa.array(ends, pa.int32())
    if not any(value is None for value in values):
        return pa.ListArray.from_arrays(offsets, flat, type=kind)
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(offsets, flat, type=kind, mask=missing)
