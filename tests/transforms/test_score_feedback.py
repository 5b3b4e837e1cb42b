"""The composite scores what has words, lets the rest pass, and loses nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that, equal_to

from models.encoder.artefact import DEFAULT_MODEL_PATH
from models.encoder.scorer import TextScorer
from models.encoder.serving import ScorerPool, ServingConfig, shared_pool
from models.encoder.store import publish_model
from models.errors import DeploymentError
from models.pointer import write_pointer
from models.records import DeadLetter, FeedbackEvent, ScoredFeedback, ScoredText
from models.text import text_hash
from transforms.score_feedback import ScoreFeedback, TextModelHandler

CPU = ("CPUExecutionProvider",)


def _scorer() -> TextScorer:
    return shared_pool(ServingConfig("default", None, CPU, 2)).scorer


def _event(number: int, text: str | None = None) -> FeedbackEvent:
    kind = "click" if text is None else "review"
    return FeedbackEvent(
        f"e{number}", "u", kind, number, item_id="i", text=text, source_position=f"f:{number}"
    )


EVENTS = [
    _event(0, "the zipper broke after a day"),
    _event(1),
    _event(2, "I love it"),
    _event(3, "I love it"),
    _event(4, "   "),
    _event(5, "broken \ud800 pair"),
    _event(6),
]


def _summary(row: ScoredFeedback) -> tuple[str, float | None]:
    return row.event.event_id, None if row.score is None else row.score.polarity


def _polarity(text: str) -> float:
    [result] = _scorer().score([text])
    assert isinstance(result, ScoredText)
    return result.score.polarity


def test_texts_are_scored_and_the_rest_passes_by() -> None:
    expected = [
        ("e0", _polarity("the zipper broke after a day")),
        ("e1", None),
        ("e2", _polarity("I love it")),
        ("e3", _polarity("I love it")),
        ("e6", None),
    ]
    assert expected[0][1] is not None
    assert expected[0][1] < -0.5
    with Pipeline() as pipeline:
        outputs = pipeline | beam.Create(EVENTS) | ScoreFeedback(threads=2)
        assert_that(outputs.scored | beam.Map(_summary), equal_to(expected))


def test_a_text_that_cannot_be_scored_is_a_dead_letter_alone() -> None:
    def check(letters: Iterable[DeadLetter]) -> None:
        rows = sorted(letters, key=lambda letter: letter.source_position)
        assert [(r.stage, r.error_code, r.source_position) for r in rows] == [
            ("score", "scoring_failed", "f:4"),
            ("score", "scoring_failed", "f:5"),
        ]
        assert "surrogate" in rows[1].reason

    with Pipeline() as pipeline:
        outputs = pipeline | beam.Create(EVENTS) | ScoreFeedback(threads=2)
        assert_that(outputs.dead_letters, check)


def test_each_text_gives_one_vector_a_bundle() -> None:
    version = _scorer().model_version
    expected = [(text_hash(text), version, 768) for text in ("the zipper broke after a day", "I love it")]
    with Pipeline() as pipeline:
        outputs = pipeline | beam.Create(EVENTS) | ScoreFeedback(threads=2)
        sizes = outputs.text_vectors | beam.Map(lambda row: (row[0], row[1], len(row[2])))
        assert_that(sizes | beam.Distinct(), equal_to(expected))


def test_texts_whose_middle_is_not_read_are_told() -> None:
    long = "The coat was fine at first. " * 80
    with Pipeline() as pipeline:
        outputs = pipeline | beam.Create([_event(0, long), _event(1, "I love it"), _event(2, long)])
        told = outputs | ScoreFeedback(threads=2)
        counts = told.accounting | beam.CombinePerKey(sum)
        assert_that(counts, equal_to([("note.texts_read_in_part", 2)]))


def test_without_a_model_everything_passes_unscored() -> None:
    with Pipeline() as pipeline:
        outputs = pipeline | beam.Create(EVENTS) | ScoreFeedback(model_path=None)
        assert_that(outputs.scored | beam.Map(_summary), equal_to([(e.event_id, None) for e in EVENTS]))
        assert_that(outputs.dead_letters, equal_to([]), label="NoDeadLetters")
        assert_that(outputs.text_vectors, equal_to([]), label="NoVectors")


def _counters(scoring: ScoreFeedback, events: list[FeedbackEvent]) -> dict[tuple[str, str], int]:
    pipeline = Pipeline()
    _ = pipeline | beam.Create(events) | scoring
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query()["counters"]
    return {(c.key.metric.namespace, c.key.metric.name): c.committed for c in found}


def test_the_work_is_counted_for_its_model_version() -> None:
    texts = [_event(i, f"review number {i % 5}") for i in range(20)]
    counters = _counters(ScoreFeedback(threads=2), texts)
    space = f"encoder.{_scorer().model_version}"
    assert counters[space, "texts"] == 20
    assert counters[space, "encoded"] + counters[space, "cache_hits"] == 20
    assert counters[space, "encoded"] <= 5
    assert counters[space, "computed_tokens"] == counters[space, "tokens"]  # exact lengths: no padding
    assert counters[space, "failed"] == counters[space, "cut"] == 0


def test_a_canary_is_compared_and_changes_nothing() -> None:
    texts = [_event(i, f"I love the {i}th one") for i in range(30)]
    scoring = ScoreFeedback(threads=2, canary_model=str(DEFAULT_MODEL_PATH), canary_share=1.0)
    counters = _counters(scoring, texts)
    space = f"canary.{_scorer().model_version}.{_scorer().model_version}"
    assert counters[space, "texts"] == counters[space, "agreed"] == 30
    assert counters[space, "polarity_delta"] == counters[space, "failures"] == 0


def test_a_published_model_is_followed_and_a_broken_one_refused(tmp_path: Path) -> None:
    home = publish_model(DEFAULT_MODEL_PATH, tmp_path)
    scoring = ScoreFeedback(str(tmp_path), threads=1, poll_seconds=0)
    version = home.name
    assert _counters(scoring, [_event(1, "good")])[f"encoder.{version}", "texts"] == 1
    write_pointer(tmp_path, "half-written")
    counters = _counters(scoring, [_event(1, "bad"), _event(2, "worse")])
    assert counters[f"encoder.{version}", "texts"] == 2
    assert counters["encoder", "models_refused"] == 1


def test_the_handler_answers_in_order() -> None:
    handler = TextModelHandler(ServingConfig(providers=CPU, threads=2))
    results = list(handler.run_inference(EVENTS, handler.load_model()))
    assert [event for event, _ in results] == EVENTS
    assert [result is None for _, result in results] == [event.text is None for event in EVENTS]


def test_a_process_keeps_one_scorer_for_a_configuration() -> None:
    assert _scorer() is _scorer()


def test_a_missing_model_is_found_before_the_run() -> None:
    with pytest.raises(DeploymentError, match="no model at"):
        ScoreFeedback(model_path="/nowhere").load()
    with pytest.raises(DeploymentError, match="is not in this onnxruntime"):
        ScoreFeedback(providers=("NoSuchProvider",)).load()
    assert ScoreFeedback(model_path=None).load() is None
    assert isinstance(ScoreFeedback(threads=2).load(), ScorerPool)
