"""The output tables: their records, their Arrow schemas with column comments, and their order.

Other teams read these tables without importing this code, so a column is never renamed or
retyped within a `SCHEMA_VERSION`; new nullable columns may be added at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import pyarrow as pa

from models.records import Micros, TextScore

#: Raised when a column is renamed, retyped or removed.
SCHEMA_VERSION: Final = 1

#: Keys of the metadata in every file.
TABLE_KEY: Final = b"livelist.table"
VERSION_KEY: Final = b"livelist.schema_version"
COMMENT_KEY: Final = b"comment"


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """An accepted event and what its words said; the words themselves stay out of the tables."""

    event_id: str
    user_id: str
    kind: str
    item_id: str | None
    event_time: Micros
    rating: float | None  # as sent, on the declared scale
    score: TextScore | None  # None without text
    weight: float | None  # signed value of the event in [-1, 1]; None where it has none
    conflict: bool  # stars and words disagree
    source_position: str


@dataclass(frozen=True, slots=True)
class TrendRow:
    """How often an item or topic came up in a window, and in which tone."""

    window_start: Micros
    window_end: Micros
    subject_kind: Literal["item", "topic"]
    subject: str
    count: int  # events about it
    texts: int  # those with words
    mean_polarity: float | None  # [-1, 1]; None without texts
    polarity_deviation: float | None  # standard deviation of the texts' polarity
    rated_texts: int  # texts that came with stars
    conflicts: int  # those where stars and words disagree


@dataclass(frozen=True, slots=True)
class AlertRow:
    """Something that people should look at."""

    kind: str  # one of models.trends.ALERT_KINDS
    subject_kind: str  # item, topic, stream or job
    subject: str
    time: Micros  # end of the window that raised it
    evidence: str  # a JSON object: what was measured, against what, by how many standard errors


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One check of the run or of one window."""

    check: str  # e.g. "accounting.input"
    value: float
    window_start: Micros | None = None  # None: the whole run
    window_end: Micros | None = None
    threshold: float | None = None  # the value should not exceed it


_TIME: Final = pa.timestamp("us", tz="UTC")
_STRINGS: Final = pa.list_(pa.field("element", pa.string(), nullable=False))


def _column(name: str, kind: pa.DataType, comment: str, *, null: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=null, metadata={COMMENT_KEY: comment.encode()})


def _records(*fields: pa.Field) -> pa.DataType:
    return pa.list_(pa.field("element", pa.struct(fields), nullable=False))


REASONS: Final = _records(
    _column("code", pa.string(), "kind of evidence"),
    _column("event_ids", _STRINGS, "the user's feedback that put the item there; empty for common causes"),
    _column("contribution", pa.float64(), "score the item would lose without this evidence"),
    _column("text", pa.string(), "the reason in one sentence"),
)
ITEMS: Final = _records(
    _column("rank", pa.int32(), "place in the list, from 1"),
    _column("item_id", pa.string(), "the item"),
    _column("score", pa.float64(), "additive score, before diversity"),
    _column("reasons", REASONS, "largest contribution first"),
)
_TOPICS: Final = _records(
    _column("name", pa.string(), "topic of the deployment"),
    _column("score", pa.float64(), "similarity or probability"),
)
_SENTIMENT: Final = pa.struct(
    [_column(name, pa.float64(), f"probability of {name}") for name in ("negative", "neutral", "positive")]
)

_USER = _column("user_id", pa.string(), "raw id, or its HMAC-SHA256 pseudonym when a key was given")
_LIST_VERSION: Final = (
    _column("state_version", pa.int64(), "version of the list; the highest of a user is the current one"),
    _column("event_time", _TIME, "newest feedback of the user behind the list"),
    _column("scored_time", _TIME, "wall clock, when the last text behind it was scored", null=True),
    _column("emitted_time", _TIME, "wall clock, when the list was made"),
    _column(
        "window_end",
        _TIME,
        "end of the second of its newest feedback, in event time; null in a bounded run",
        null=True,
    ),
    _column("model_version", pa.string(), "encoder that scored the texts"),
    _column("index_version", pa.string(), "item index that ranked"),
    _column("trigger_event_ids", _STRINGS, "newest feedback behind this refresh"),
    _column("list_hash", pa.string(), "hash of items, scores and reasons; equal lists have equal hashes"),
)
#: Last, for it came later: files of before lack it.
WRITTEN_TIME: Final = _column(
    "written_time", _TIME, "wall clock, when an endless run wrote the row; null in a bounded run", null=True
)
_WINDOW: Final = (
    _column("window_start", _TIME, "start of the window, inclusive"),
    _column("window_end", _TIME, "end of the window, exclusive"),
)
_REJECTED: Final = (
    _column("stage", pa.string(), "step that rejected the input"),
    _column("error_code", pa.string(), "one of the documented error codes"),
    _column("reason", pa.string(), "what was expected, what came, what to do"),
    _column("payload", pa.string(), "the input as it came, redacted"),
    _column("source_position", pa.string(), "where it was read: file and line"),
    _column("time", _TIME, "wall clock, when it was rejected"),
)

_COLUMNS: Final[dict[str, tuple[pa.Field, ...]]] = {
    "recommendations": (
        _USER,
        _LIST_VERSION[0],
        _column("items", ITEMS, "the list, best first; empty only for a tombstone"),
        *_LIST_VERSION[1:],
        _column("tombstone", pa.bool_(), "the user was erased; no list"),
        _column("hindsight", pa.bool_(), "past feedback ranked with the final index; never the current list"),
        WRITTEN_TIME,
    ),
    "recommendations_latest": (
        _USER,
        _column("rank", pa.int32(), "place in the list, from 1 without gaps"),
        _column("item_id", pa.string(), "the item"),
        _column("score", pa.float64(), "additive score, before diversity"),
        _column("reasons", REASONS, "why it is listed, largest contribution first"),
        *_LIST_VERSION,
        WRITTEN_TIME,
    ),
    "scored_feedback": (
        _column("event_id", pa.string(), "the event; unique within its user"),
        _USER,
        _column("kind", pa.string(), "view, purchase, review, ..."),
        _column("item_id", pa.string(), "the item it is about", null=True),
        _column("event_time", _TIME, "when the user acted"),
        _column("rating", pa.float64(), "as sent, on the declared scale", null=True),
        _column("sentiment", _SENTIMENT, "probabilities of the text; null without text", null=True),
        _column("polarity", pa.float64(), "tone of the text in [-1, 1]", null=True),
        _column("intensity", pa.float64(), "strength of the text in [0, 1]", null=True),
        _column("confidence", pa.float64(), "of the score, in [0, 1]", null=True),
        _column("topics", _TOPICS, "topics of the text, best first", null=True),
        _column("intent", pa.string(), "intent of the text; null when none matches", null=True),
        _column("language", pa.string(), "BCP 47 primary tag of the text", null=True),
        _column("weight", pa.float64(), "signed value of the event in [-1, 1]", null=True),
        _column("conflict", pa.bool_(), "stars and words disagree"),
        _column("model_version", pa.string(), "encoder that scored the text", null=True),
        _column("source_position", pa.string(), "where it was read: file and line"),
    ),
    "trends": (
        *_WINDOW,
        _column("subject_kind", pa.string(), "item or topic"),
        _column("subject", pa.string(), "item_id or topic name"),
        _column("count", pa.int64(), "events about it in the window"),
        _column("texts", pa.int64(), "those with words"),
        _column("mean_polarity", pa.float64(), "mean tone of the texts in [-1, 1]", null=True),
        _column("polarity_deviation", pa.float64(), "standard deviation of their tone", null=True),
        _column("rated_texts", pa.int64(), "texts that came with stars"),
        _column("conflicts", pa.int64(), "those where stars and words disagree"),
    ),
    "alerts": (
        _column(
            "kind",
            pa.string(),
            "polarity_drop, surge, conflict_rate, index_refused, model_refused or text_lane_stopped",
        ),
        _column("subject_kind", pa.string(), "item, topic, stream or job"),
        _column("subject", pa.string(), "item_id, topic name, or 'all'"),
        _column("time", _TIME, "end of the window that raised it"),
        _column("evidence", pa.string(), "JSON object: what was measured, against what, z"),
    ),
    "quality": (
        _column("run_id", pa.string(), "the run that measured it"),
        _column("window_start", _TIME, "null: the whole run", null=True),
        _column("window_end", _TIME, "null: the whole run", null=True),
        _column("check", pa.string(), "what was measured, e.g. accounting.input"),
        _column("value", pa.float64(), "the measure"),
        _column("threshold", pa.float64(), "the value should not exceed it", null=True),
    ),
    "dead_letters": _REJECTED,
    "quarantine": _REJECTED,
}

#: Every table, in the order in which they are published: what most people read comes last.
TABLES: Final[tuple[str, ...]] = (
    "dead_letters", "quarantine", "scored_feedback", "trends", "alerts", "quality",
    "recommendations", "recommendations_latest",
)  # fmt: skip

DESCRIPTIONS: Final[dict[str, str]] = {
    "recommendations": "Every version of every list: one row a list, tombstones included.",
    "recommendations_latest": "The current lists: one row per user and rank.",
    "scored_feedback": "The accepted feedback with what the encoder read in its words; no raw text.",
    "trends": "Counts and tone of items and topics per window of event time.",
    "alerts": "What people should look at, with the evidence.",
    "quality": "Checks of the run; accounting.* closes exactly.",
    "dead_letters": "Input that could not be understood.",
    "quarantine": "Input that was understood and is not trusted.",
}

#: Canonical order of the rows; what a table holds does not depend on how the job was parallelised.
SORT_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "recommendations": ("user_id", "state_version", "hindsight", "list_hash"),
    "recommendations_latest": ("user_id", "rank"),
    "scored_feedback": ("user_id", "event_time", "event_id", "source_position"),
    "trends": ("window_start", "window_end", "subject_kind", "subject"),
    "alerts": ("time", "kind", "subject_kind", "subject", "evidence"),
    "quality": ("run_id", "check", "window_start", "window_end", "value"),
    "dead_letters": ("source_position", "stage", "error_code", "payload", "reason", "time"),
    "quarantine": ("source_position", "stage", "error_code", "payload", "reason", "time"),
}

SCHEMAS: Final[dict[str, pa.Schema]] = {
    name: pa.schema(
        _COLUMNS[name],
        metadata={
            TABLE_KEY: name.encode(),
            VERSION_KEY: str(SCHEMA_VERSION).encode(),
            COMMENT_KEY: DESCRIPTIONS[name].encode(),
        },
    )
    for name in TABLES
}


class ColumnDescription(NamedTuple):
    """One column for people; nested columns have dotted names."""

    name: str
    type: str
    nullable: bool
    comment: str


def describe_table(name: str) -> tuple[ColumnDescription, ...]:
    """The columns of a table in order, nested ones after their parent."""
    return tuple(found for field in SCHEMAS[name] for found in _describe(field, ""))


def _describe(field: pa.Field, prefix: str) -> tuple[ColumnDescription, ...]:
    comment = (field.metadata or {}).get(COMMENT_KEY, b"").decode()
    column = ColumnDescription(prefix + field.name, _type_name(field.type), field.nullable, comment)
    inner = field.type.value_type if pa.types.is_list(field.type) else field.type
    if not pa.types.is_struct(inner):
        return (column,)
    nested = (found for child in inner for found in _describe(child, f"{column.name}."))
    return (column, *nested)


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct"
    return str(kind)


def table_of(schema: pa.Schema) -> str | None:
    """The table whose file has this schema; None for a file that livelist did not write."""
    name = (schema.metadata or {}).get(TABLE_KEY, b"").decode()
    return name if name in SCHEMAS else None


def schema_version_of(schema: pa.Schema) -> int:
    """The schema version that a file was written with; 0 when it has none."""
    return int((schema.metadata or {}).get(VERSION_KEY, b"0"))
