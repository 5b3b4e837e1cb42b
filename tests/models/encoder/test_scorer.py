"""Each text is read once, alone and the same way every time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoder.artefact import DEFAULT_MODEL_PATH
from models.encoder.reading import UNKNOWN_LANGUAGE_CONFIDENCE, trusted_sentiment
from models.encoder.scorer import ScoringFailure, TextScorer, score_as_json, unreadable
from models.encoder.session import EncoderOutput
from models.encoder.tokens import EncoderInput
from models.errors import DeploymentError
from models.records import ScoredText, TextScore
from tests.models.encoder.tiny import write_tiny


@pytest.fixture(scope="module")
def scorer() -> TextScorer:
    return TextScorer(threads=2)


def _fresh(threads: int = 1) -> TextScorer:
    """A scorer that remembers nothing."""
    return TextScorer(threads=threads)


def _score(scorer: TextScorer, text: str) -> TextScore:
    [result] = scorer.score([text])
    assert isinstance(result, ScoredText)
    return result.score


@pytest.mark.parametrize(
    "text",
    [
        "the zipper broke after a day",
        "waste of money",
        "The battery dies after an hour and customer service never answered",
        "terrible",
        "it fell apart",
        "Do not buy. The worst purchase I have made.",
        "The seams ripped the first time I wore it",
    ],
)
def test_what_displeases_is_negative(scorer: TextScorer, text: str) -> None:
    score = _score(scorer, text)
    assert score.polarity < -0.5
    assert score.intent == "complaint"


@pytest.mark.parametrize(
    "text",
    [
        "excellent, arrived quickly",
        "I love this dress, it fits perfectly and the color is gorgeous",
        "Great value for the money",
        "Not bad at all, I would buy it again",
        "sturdy strings and great sound for my guitar",
        "Works as described.",
    ],
)
def test_what_pleases_is_positive(scorer: TextScorer, text: str) -> None:
    score = _score(scorer, text)
    assert score.polarity > 0.5
    assert score.intent == "praise"


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("the zipper broke after a day", "quality"),
        ("excellent, arrived quickly", "delivery"),
        ("The sleeves are far too short for me", "fit"),
        ("way too expensive", "price"),
        ("The fabric is so itchy", "comfort"),
        ("the staff was rude to me", "service"),
    ],
)
def test_the_topic_of_a_plain_sentence_comes_first(scorer: TextScorer, text: str, topic: str) -> None:
    assert _score(scorer, text).topics[0][0] == topic


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("I want a book about programming", "request"),
        ("Does it come in other colors?", "question"),
        ("I want to return this and get my money back", "return_request"),
    ],
)
def test_who_asks_is_told_from_who_judges(scorer: TextScorer, text: str, intent: str) -> None:
    assert _score(scorer, text).intent == intent


@pytest.mark.parametrize(
    "text",
    [
        "Der Reißverschluss ist nach einem Tag kaputt gegangen",
        "Funktioniert einwandfrei, absolut empfehlenswert",
        "Totaler Schrott",
        "La fermeture est cassée après une journée, très déçu",
        "Excellent produit, je recommande vivement",
        "Una basura, llegó roto",
        "Me encanta, excelente calidad",
        "Ужасное качество, сломалось за день",
        "Отличный товар, всем советую",
        "最悪です。すぐに壊れました",
        "とても良い商品です",
        "별로예요. 하루 만에 고장났어요",
        "정말 좋아요",
        "منتج سيء جدا",
        "منتج رائع",
        "👍👍👍",
        "12345",
        "\x00\x01",
    ],
)
def test_what_it_cannot_read_gets_no_confident_polarity(scorer: TextScorer, text: str) -> None:
    score = _score(scorer, text)
    assert score.confidence <= UNKNOWN_LANGUAGE_CONFIDENCE
    assert abs(score.polarity) <= UNKNOWN_LANGUAGE_CONFIDENCE


_FRESH = {threads: _fresh(threads) for threads in (1, 2, 3)}
REVIEWS = [
    "broke",
    "The zipper broke after a day and nobody answers my mails. " * 3,
    "I love it! " * 40,
    "It is ok",
    "质量很差",
    "Great value, would buy again",
]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(REVIEWS), min_size=1, max_size=8), st.sampled_from([1, 2, 3]))
def test_results_do_not_depend_on_neighbours_or_threads_to_the_bit(texts: list[str], threads: int) -> None:
    alone, together = _FRESH[1], _FRESH[threads]
    alone.forget()
    expected = [alone.score([text])[0] for text in texts]
    together.forget()
    assert together.score(texts) == expected


def test_each_distinct_text_is_encoded_once() -> None:
    scorer = _fresh()
    _, first = scorer.score_batch(["good", "bad", "good"])
    _, second = scorer.score_batch(["bad", "new"])
    assert (first.texts, first.encoded, first.cache_hits) == (3, 2, 1)
    assert (second.texts, second.encoded, second.cache_hits) == (2, 1, 1)
    assert first.tokens == 6


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.encoder.scorer.CACHED_TEXTS", 2)
    scorer = _fresh()
    scorer.score(["one", "two", "three"])
    assert [scorer.score_batch([text])[1].cache_hits for text in ("three", "two", "one")] == [1, 1, 0]


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        ("", "expected words, got an empty text"),
        (" \n\t", "expected words, got an empty text"),
        ("broken \ud800 pair", "character 7 is half of a surrogate pair"),
    ],
)
def test_one_poison_text_fails_alone(scorer: TextScorer, poison: str, reason: str) -> None:
    good, failed, bad = scorer.score(["I love it", poison, "I hate it"])
    assert isinstance(good, ScoredText)
    assert good.score.polarity > 0
    assert isinstance(bad, ScoredText)
    assert bad.score.polarity < 0
    assert isinstance(failed, ScoringFailure)
    assert reason in failed.reason


@pytest.mark.parametrize(
    ("text", "cut"),
    [("great " * 2000, True), ("a" * 1_000_000, True), ("great " * 200, False), ("great", False)],
    ids=["words", "1 MB of one letter", "almost too long", "short"],
)
def test_a_cut_is_recorded_with_the_text_and_counted(text: str, cut: bool) -> None:
    scorer = _fresh()
    [result], statistics = scorer.score_batch([text])
    assert isinstance(result, ScoredText)
    assert result.cut is cut
    assert statistics.cut == int(cut)
    assert score_as_json(result).get("cut", False) is cut


def test_a_text_of_which_the_graph_cannot_make_anything_fails_alone(tmp_path: Path) -> None:
    artefact = write_tiny(tmp_path / "model")
    scorer = TextScorer(artefact.path, threads=2)
    poison = "bad zipper"
    ids = scorer._inputs.encode([poison])[0].ids

    class Failing:
        """The real encoder; it breaks down at one text, alone or among others."""

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def run(self, inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
            if any(features.ids == ids for features in inputs):
                raise RuntimeError("out of memory")
            return real.run(inputs)

        def plan(self, inputs: Sequence[EncoderInput]) -> list[list[int]]:
            return [list(range(len(inputs)))] if len({len(i.ids) for i in inputs}) == 1 else real.plan(inputs)

    real, scorer._encoder = scorer._encoder, Failing()  # type: ignore[assignment]
    good, failed, bad = scorer.score(["good zipper", poison, "love zipper"])
    assert isinstance(failed, ScoringFailure)
    assert "out of memory" in failed.reason
    assert isinstance(good, ScoredText)
    assert isinstance(bad, ScoredText)


def test_what_is_not_text_is_named() -> None:
    assert unreadable(3) == "expected text, got int"


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "great " * 100_000,
        "\x00\x01",
        "😀" * 500,
        "屏幕 good 不行",
        "<b>&amp;</b>",
        "\u202eabc",
        ".",
    ],
    ids=["one word of 1 MB", "600 kB", "control", "emoji", "mixed", "html", "right to left", "dot"],
)
def test_strange_texts_are_scored(scorer: TextScorer, text: str) -> None:
    score = _score(scorer, text)
    assert sum(score.sentiment) == pytest.approx(1)
    assert all(0 <= p <= 1 for p in (*score.sentiment, score.intensity, score.confidence))
    assert -1 <= score.polarity <= 1


def test_numbers_are_rounded_so_that_rows_are_stable(scorer: TextScorer) -> None:
    score = _score(scorer, "I love this dress, it fits perfectly and the color is gorgeous")
    for value in (score.polarity, score.intensity, score.confidence, *score.sentiment):
        assert value == round(value, 4)
    assert all(cosine == round(cosine, 3) for _, cosine in score.topics)
    assert score.polarity == pytest.approx(score.sentiment[2] - score.sentiment[0], abs=1e-9)
    assert score.model_version == scorer.model_version


def test_the_embedding_is_a_unit_vector_of_halves(scorer: TextScorer) -> None:
    [result] = scorer.score(["warm winter coat"])
    assert isinstance(result, ScoredText)
    vector = np.frombuffer(result.embedding, dtype="<f2").astype(np.float32)
    assert vector.shape == (384,)
    assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-2)


def test_the_embedding_still_knows_what_is_alike(scorer: TextScorer) -> None:
    coat, jacket, guitar = scorer.embed(
        ["a warm winter coat", "a thick jacket for the cold", "guitar strings"]
    )
    assert coat @ jacket > 0.5
    assert coat @ guitar < 0.3


@given(st.lists(st.floats(0.001, 1), min_size=3, max_size=3), st.booleans())
def test_probabilities_add_up_and_doubt_is_honest(weights: list[float], known: bool) -> None:
    p = np.array(weights, np.float32) / np.float32(sum(weights))
    sentiment, confidence = trusted_sentiment(p, known)
    assert sum(sentiment) == pytest.approx(1, abs=1e-6)
    assert confidence == pytest.approx(float(p.max()) if known else UNKNOWN_LANGUAGE_CONFIDENCE, abs=1e-4)
    if not known:
        assert abs(sentiment[2] - sentiment[0]) <= UNKNOWN_LANGUAGE_CONFIDENCE + 1e-3


def test_the_json_view_has_its_keys_in_order(scorer: TextScorer) -> None:
    view = score_as_json(scorer.score(["the zipper broke after a day"])[0])
    assert list(view) == ["polarity", "intensity", "sentiment", "topics", "intent", "confidence", "language"]
    assert json.loads(json.dumps(view)) == view
    assert score_as_json(ScoringFailure("why")) == {"error": "why"}


def test_a_negative_number_of_threads_is_refused() -> None:
    with pytest.raises(ValueError, match="threads must be at least 1, or 0 for one a core, got -1"):
        TextScorer(threads=-1)


def test_a_missing_model_is_refused() -> None:
    with pytest.raises(DeploymentError, match="no model at"):
        TextScorer.load(DEFAULT_MODEL_PATH / "nowhere")
