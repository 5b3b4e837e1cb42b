"""Checks of the data in each window of event time, exact in integers, and of the published index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from models.records import Micros
from models.tables import QualityRow, ScoredRow

#: Below it a score says little; languages that the model does not know stay below it.
LOW_CONFIDENCE: Final = 0.3
#: Check -> the share that deserves a look.
THRESHOLDS: Final[dict[str, float]] = {
    "data.unrated_share": 0.9,
    "data.low_confidence_share": 0.5,
    "data.unknown_language_share": 0.5,
    "data.conflict_share": 0.2,
}
_RATED_KINDS: Final = frozenset({"rating", "review"})


class QualitySum(NamedTuple):
    """Counts of accepted events in one window; adds exactly, in any order."""

    events: int = 0
    opinions: int = 0  # ratings and reviews
    unrated: int = 0  # of them, without stars
    texts: int = 0  # scored
    low_confidence: int = 0
    unknown_language: int = 0
    rated_texts: int = 0
    conflicts: int = 0


def quality_part(row: ScoredRow) -> QualitySum:
    """What one event adds."""
    opinion, score = row.kind in _RATED_KINDS, row.score
    unrated = opinion and row.rating is None
    if score is None:
        return QualitySum(1, opinion, unrated)
    return QualitySum(
        1,
        opinion,
        unrated,
        1,
        score.confidence < LOW_CONFIDENCE,
        score.language == "und",
        row.rating is not None,
        row.conflict,
    )


def merge_quality(into: dict[Micros, QualitySum], parts: Iterable[tuple[Micros, QualitySum]]) -> None:
    """Adds sums by window start."""
    for start, part in parts:
        known = into.get(start)
        into[start] = part if known is None else QualitySum(*map(int.__add__, known, part))


def quality_rows(sums: Mapping[Micros, QualitySum], window: Micros) -> list[QualityRow]:
    """The rows of all windows, oldest first; a share without a denominator is left out."""
    return [row for start in sorted(sums) for row in _window_rows(start, sums[start], window)]


def _window_rows(start: Micros, total: QualitySum, window: Micros) -> list[QualityRow]:
    shares = {
        "data.unrated_share": (total.unrated, total.opinions),
        "data.low_confidence_share": (total.low_confidence, total.texts),
        "data.unknown_language_share": (total.unknown_language, total.texts),
        "data.conflict_share": (total.conflicts, total.rated_texts),
    }
    rows = [QualityRow("data.events", float(total.events), start, start + window)]
    return rows + [
        QualityRow(check, part / whole, start, start + window, THRESHOLDS[check])
        for check, (part, whole) in shares.items()
        if whole
    ]


def index_rows(meta: Mapping[str, Any]) -> list[QualityRow]:
    """What the published index was learned from, and how well it predicts each user's last item.

    `index.fit` is the inner hold-out that fits the fusion: ours beside popularity's.
    """
    counted = [QualityRow(f"index.{name}", float(meta[name])) for name in ("items", "users", "interactions")]
    figures = meta["fusion"].get("figures", {})
    return counted + [QualityRow(f"index.fit.{name}", float(figures[name])) for name in sorted(figures)]
