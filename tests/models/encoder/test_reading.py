"""Outputs become scores: any number of classes, trained heads beside the catalogue, honest about doubt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoder.reading import fold_sentiment
from models.encoder.scorer import TextScorer
from models.encoder.topics import parse_topics
from models.records import ScoredText, TextScore
from tests.models.encoder.tiny import write_tiny

CATALOGUE = parse_topics("""
version: 1
topic_threshold: -1
intent_threshold: -1
topics:
  - {name: quality, description: good}
  - {name: zipper, description: zipper}
intents:
  - {name: opinion, description: good}
""")


def _score(folder: Path, text: str, **changes: object) -> TextScore:
    artefact = write_tiny(folder / "model", **changes)
    [result] = TextScorer(artefact.path, threads=1, topics=CATALOGUE).score([text])
    assert isinstance(result, ScoredText)
    return result.score


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5).filter(lambda values: sum(values) > 0.1))
def test_any_number_of_classes_folds_to_three(values: list[float]) -> None:
    p = np.array(values, np.float32) / np.float32(sum(values))
    negative, neutral, positive = fold_sentiment(p)
    assert float(negative + neutral + positive) == pytest.approx(1, abs=1e-5)
    assert float(fold_sentiment(p[::-1])[0]) == pytest.approx(float(positive), abs=1e-6)
    assert (neutral == 0) == (len(p) % 2 == 0 or p[len(p) // 2] == 0)


@pytest.mark.parametrize(
    "labels", [["negative", "positive"], ["negative", "neutral", "positive"], ["1", "2", "3", "4", "5"]]
)
def test_worst_comes_first_whatever_the_number_of_labels(tmp_path: Path, labels: list[str]) -> None:
    bad = _score(tmp_path, "bad bad bad", sentiment_labels=labels)
    good = _score(tmp_path, "good good good", sentiment_labels=labels)
    assert bad.polarity < 0 < good.polarity
    assert sum(good.sentiment) == pytest.approx(1)


def test_without_a_sentiment_head_nothing_is_claimed(tmp_path: Path) -> None:
    score = _score(tmp_path, "good", outputs=["embedding"], sentiment_labels=None)
    assert (score.polarity, score.confidence, score.intensity) == (0, 0, 0)
    assert sum(score.sentiment) == pytest.approx(1)


def test_without_an_intensity_head_it_is_the_size_of_the_polarity(tmp_path: Path) -> None:
    score = _score(tmp_path, "bad", outputs=["embedding", "sentiment"])
    assert score.intensity == abs(score.polarity) > 0


def test_trained_topics_come_before_those_of_the_catalogue(tmp_path: Path) -> None:
    head = {"names": ["trained", "quality"], "thresholds": 0.0}
    changes = {"outputs": ["embedding", "sentiment", "topics"]}
    score = _score(tmp_path, "good zipper", topics=head, **changes)
    names = [name for name, _ in score.topics]
    assert sorted(names[:2]) == ["quality", "trained"]
    assert names[2:] in ([], ["zipper"])  # the catalogue's own quality is the head's
    alone = _score(tmp_path, "good zipper", topics=head | {"replace": True}, **changes)
    assert {name for name, _ in alone.topics} == {"trained", "quality"}
    strict = _score(tmp_path, "good zipper", topics=head | {"thresholds": 1.0, "replace": True}, **changes)
    assert strict.topics == ()


def test_a_trained_intent_wins_unless_it_is_out_of_scope(tmp_path: Path) -> None:
    changes = {"outputs": ["embedding", "sentiment", "intents"]}
    head = {"names": ["ask", "return"], "thresholds": 0.0}
    assert _score(tmp_path, "good", intents=head, **changes).intent in ("ask", "return")
    scoped = head | {"out_of_scope": ["ask", "return"]}
    assert _score(tmp_path, "good", intents=scoped, **changes).intent == "opinion"
    assert _score(tmp_path, "good", intents=scoped | {"replace": True}, **changes).intent is None


@pytest.mark.parametrize("text", ["😀", "ሰላም ሰላም"])
def test_a_text_of_which_no_word_is_known_has_no_intent(tmp_path: Path, text: str) -> None:
    changes = {"outputs": ["embedding", "sentiment", "intents"]}
    assert _score(tmp_path, text).intent is None
    assert _score(tmp_path, text, intents={"names": ["ask"], "thresholds": 0.0}, **changes).intent is None


@pytest.mark.parametrize("languages", [["en"], ["zh"], []])
def test_only_the_languages_of_the_manifest_are_trusted(tmp_path: Path, languages: list[str]) -> None:
    for text, tag in (("it is very good", "en"), ("质量很好", "zh")):
        score = _score(tmp_path, text, languages=languages)
        assert score.language == tag
        assert (score.confidence > 0.2) == (tag in languages)
