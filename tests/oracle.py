"""The oracle that every engine is held to: the pure core, single-threaded, over the same log at once.

`expected_lists` are the final lists in user_id, rank, item_id, score and reasons; `assert_books_close`
holds the accounting to the tables, over distinct source positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq

from models.encoder.artefact import Artefact
from models.encoder.scorer import ScoringFailure, ScoringResult, TextScorer
from models.pane import apply_pane, copy_of
from models.ranking.config import RankingConfig
from models.ranking.index import ItemIndex
from models.ranking.ranker import rank
from models.records import FeedbackEvent, RankedItem, Reason, ScoredFeedback, ScoredText
from models.state import StateConfig, UserState
from models.views import ViewPolicy, view_user
from pipeline.inputs.reading import read_feedback
from pipeline.tables.reader import read_accounting
from transforms.rank_top_k import published_statistics

#: user_id, rank, item_id, score, reasons
Row = tuple[str, int, str, float, list[dict[str, Any]]]


class Scores(Protocol):
    """What reads texts: a TextScorer, or one by what was recorded."""

    def score(self, texts: Sequence[str]) -> Sequence[ScoringResult]: ...


def expected_lists(index: Path, inputs: Iterable[Path], k: int, scorer: Scores | None = None) -> list[Row]:
    """What the final lists must be: every event of the log joined at once, ranked on a given index."""
    opened, policy = ItemIndex.open(index), ViewPolicy()
    rows: list[Row] = []
    for user_id, state in sorted(joined_states(inputs, scorer).items()):
        if not state.events:
            continue
        clock = max(opened.clock, max(state.events)[0])
        ttl = StateConfig().ttl_micros
        view = view_user(user_id, state, policy, clock, ttl, published_statistics(opened))
        (made,) = rank([view], opened, RankingConfig(), clock, k)
        rows += [_row(user_id, item) for item in made]
    return rows


def joined_states(inputs: Iterable[Path], scorer: Scores | None = None) -> dict[str, UserState]:
    """Everybody's state after the whole log."""
    copies = defaultdict(list)
    for event in read_feedback([str(path) for path in inputs]):
        if isinstance(event, FeedbackEvent):
            copies[event.user_id].append(copy_of(_scored(event, scorer), 0))
    states = {user_id: UserState() for user_id in copies}
    for user_id, state in states.items():
        apply_pane(state, copies[user_id], StateConfig(), ViewPolicy())
    return states


def _scored(event: FeedbackEvent, scorer: Scores | None) -> ScoredFeedback:
    if scorer is None or event.text is None:
        return ScoredFeedback(event)
    (result,) = scorer.score([event.text])
    assert not isinstance(result, ScoringFailure)
    return ScoredFeedback(event, result.score)


def _scorers(artefacts: Sequence[Artefact]) -> dict[str, TextScorer]:
    """By version."""
    return {made.version: TextScorer.load(made.path, threads=1) for made in artefacts}


def _texts(inputs: Path) -> dict[str, str]:
    """Source position -> the text of its event; empty for one without."""
    read = read_feedback([str(inputs)])
    return {event.source_position: event.text or "" for event in read if isinstance(event, FeedbackEvent)}


class ScorerAsRecorded:
    """Scores each text as the version does that its row of `scored_feedback` names."""

    def __init__(self, output: Path, inputs: Path, artefacts: Sequence[Artefact]) -> None:
        self._scorers = _scorers(artefacts)
        self._any = artefacts[0].version  # for what has no row, for it was taken back before
        texts = _texts(inputs)
        columns = ["source_position", "model_version"]
        rows = pq.read_table(output / "scored_feedback", columns=columns).to_pylist()
        self._versions = {texts[row["source_position"]]: row["model_version"] for row in rows}

    def score(self, texts: Sequence[str]) -> Sequence[ScoringResult]:
        """Texts of the log."""
        return [self._scorers[self._versions.get(text) or self._any].score([text])[0] for text in texts]


def assert_rows_name_what_made_them(
    output: Path, inputs: Path, artefacts: Sequence[Artefact], indexes: Sequence[Path]
) -> None:
    """Every version was published, and each text's score is what the model gives that it names."""
    versions = {artefact.version for artefact in artefacts}
    lists = pq.read_table(output / "recommendations", columns=["index_version", "model_version"]).to_pylist()
    assert {row["index_version"] for row in lists} == {index.name for index in indexes}
    assert {row["model_version"] for row in lists} - {""} == versions
    scorers, texts = _scorers(artefacts), _texts(inputs)
    columns = ["source_position", "model_version", "confidence"]
    rows = pq.read_table(output / "scored_feedback", columns=columns).to_pylist()
    scored = [row for row in rows if row["model_version"] is not None]
    assert {row["model_version"] for row in scored} == versions
    for row in scored:
        (result,) = scorers[row["model_version"]].score([texts[row["source_position"]]])
        assert isinstance(result, ScoredText)
        assert abs(row["confidence"] - result.score.confidence) < 1e-4, row


def _row(user_id: str, item: RankedItem) -> Row:
    return user_id, item.rank, item.item_id, item.score, [_reason(reason) for reason in item.reasons]


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "code": reason.code,
        "event_ids": list(reason.event_ids),
        "contribution": reason.contribution,
        "text": reason.text,
    }


def current_lists(output: Path) -> list[Row]:
    """The published lists without versions and times; none where there is no table yet."""
    if not list((output / "recommendations_latest").glob("*.parquet")):
        return []
    names = ("user_id", "rank", "item_id", "score", "reasons")
    rows = pq.read_table(output / "recommendations_latest", columns=list(names)).to_pylist()
    return [tuple(row[name] for name in names) for row in rows]


def assert_books_close(output: Path, records: int) -> None:
    """`records` distinct positions came in, each is in one account, and the tables tell the same."""
    books = read_accounting(str(output))
    assert books.unaccounted == 0
    assert books.input == records
    for table, account in (("dead_letters", "dead_lettered."), ("quarantine", "quarantined.")):
        positions = _positions(output, table)
        assert len(positions) == len(set(positions)) == books.total(account), table
    rows = _positions(output, "scored_feedback")
    assert len(rows) == len(set(rows)), "an accepted event has more than one row"
    parts = pq.read_table(output / "quality", filters=[("check", "==", "accounting.input")])
    told = [row["value"] for row in parts.to_pylist() if row["window_start"] is not None]
    assert sum(told) == records, "what the snapshots counted is not what came in"


def _positions(output: Path, table: str) -> list[str]:
    found: list[str] = pq.read_table(output / table, columns=["source_position"])[
        "source_position"
    ].to_pylist()
    return found
