"""The rows of the scored feedback: what they say, and what they must not."""

from __future__ import annotations

from models.pane import copy_of
from models.records import FeedbackEvent, ScoredFeedback, TextScore
from models.table_columns import table_from_records
from models.value import RatingScale
from transforms.describe_accepted import describe

SCORE = TextScore((0.9, 0.1, 0.0), -0.9, 0.8, 0.9)


def _described(kind: str, score: TextScore | None) -> dict[str, object]:
    event = FeedbackEvent("e1", "ann", kind, 5, "apron", text="my secret words", source_position="f:1")
    row = describe("ann", copy_of(ScoredFeedback(event, score), 7), None, RatingScale())
    [described] = table_from_records("scored_feedback", [row]).to_pylist()
    return described


def test_the_words_of_the_feedback_are_in_no_table() -> None:
    assert "secret" not in str(_described("review", SCORE))


def test_a_weight_has_the_side_of_the_words_and_a_request_has_none() -> None:
    weight = _described("review", SCORE)["weight"]
    assert isinstance(weight, float)
    assert weight < 0
    assert _described("query", SCORE)["weight"] is None
