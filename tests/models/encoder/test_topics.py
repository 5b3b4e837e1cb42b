"""A catalogue that is wrong is refused with the entry's name; a right one finds its labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoder.session import Floats
from models.encoder.topics import (
    DEFAULT_TOPICS_PATH,
    MAX_TOPICS,
    PATTERN_BONUS,
    LabelMatcher,
    default_catalogue,
    parse_topics,
    read_topics,
)
from models.errors import DeploymentError

WORDS = ["fit", "price", "praise", "complaint", "question"]
CATALOGUE = """
version: 1
topic_threshold: 0.5
intent_threshold: 0.5
topics:
  - {name: fit, description: fit}
  - {name: price, description: price, threshold: 0.9}
intents:
  - {name: praise, description: praise, polarity: positive}
  - {name: complaint, description: complaint, polarity: negative}
  - {name: question, description: question, pattern: '[?]$'}
"""


def _axis(*weights: tuple[str, float]) -> Floats:
    vector = np.zeros(len(WORDS), np.float32)
    for word, weight in weights:
        vector[WORDS.index(word)] = weight
    return vector


def _embed(phrases: Sequence[str]) -> Floats:
    """Each word on an axis of its own."""
    return np.stack([_axis((phrase, 1.0)) for phrase in phrases])


@pytest.fixture(scope="module")
def matcher() -> LabelMatcher:
    return LabelMatcher(parse_topics(CATALOGUE), _embed)


def test_topics_above_their_threshold_come_best_first(matcher: LabelMatcher) -> None:
    assert [name for name, _ in matcher.topics(_axis(("fit", 0.6), ("price", 0.8)))] == ["fit"]
    assert [name for name, _ in matcher.topics(_axis(("fit", 0.9), ("price", 0.95)))] == ["price", "fit"]
    assert matcher.topics(_axis(("fit", 0.4))) == ()


def test_a_topic_far_below_the_best_is_dropped(matcher: LabelMatcher) -> None:
    assert [name for name, _ in matcher.topics(_axis(("fit", 0.6), ("price", 1.0)))] == ["price"]


@pytest.mark.parametrize(
    ("polarity", "expected"), [(0.5, "praise"), (-0.5, None), (0.0, None), (0.05, None), (1.0, "praise")]
)
def test_praise_needs_a_positive_text(matcher: LabelMatcher, polarity: float, expected: str | None) -> None:
    assert matcher.intent(_axis(("praise", 0.8)), "text", polarity) == expected


def test_a_strong_polarity_makes_an_intent_of_a_faint_resemblance(matcher: LabelMatcher) -> None:
    assert matcher.intent(_axis(("complaint", 0.3)), "it broke", -0.9) == "complaint"
    assert matcher.intent(_axis(("complaint", 0.3)), "it broke", -0.2) is None


def test_a_pattern_adds_its_bonus(matcher: LabelMatcher) -> None:
    near = _axis(("question", 0.5 - PATTERN_BONUS / 2))
    assert matcher.intent(near, "is it warm?", 0.0) == "question"
    assert matcher.intent(near, "it is warm", 0.0) is None


def test_an_empty_catalogue_finds_nothing() -> None:
    nothing = LabelMatcher(parse_topics("version: 1"), _embed)
    assert nothing.topics(_axis(("fit", 1.0))) == ()
    assert nothing.intent(_axis(("praise", 1.0)), "?", 1.0) is None


@given(st.lists(st.floats(-1, 1, width=32), min_size=5, max_size=5), st.floats(-1, 1))
def test_what_is_found_is_in_order_and_few(vector: list[float], polarity: float) -> None:
    found = LabelMatcher(parse_topics(CATALOGUE), _embed)
    topics = found.topics(np.array(vector, np.float32))
    assert [cosine for _, cosine in topics] == sorted((c for _, c in topics), reverse=True)
    assert len(topics) <= MAX_TOPICS
    assert found.intent(np.array(vector, np.float32), "", polarity) in {
        None,
        "praise",
        "complaint",
        "question",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- a", "expected fields, got list"),
        ("", "expected fields, got NoneType"),
        ("topics: []", "expected `version: 1`, got None"),
        ("version: 1\ntopic: []", "unknown field topic; expected"),
        ("version: 1\ntopics: fit", "topics must be a list, got str"),
        ("version: 1\ntopics: [fit]", r"topics\[0\]: expected fields, got str"),
        ("version: 1\ntopics: [{description: x}]", "name must be lower-case letters"),
        ("version: 1\ntopics: [{name: Fit, description: x}]", "got 'Fit'"),
        ("version: 1\ntopics: [{name: fit}]", r"\(fit\): the description and every example must be text"),
        ("version: 1\ntopics: [{name: fit, description: x, examples: [1]}]", "every example must be text"),
        ("version: 1\ntopics: [{name: fit, description: x, examples: y}]", "examples must be a list"),
        ("version: 1\ntopics: [{name: fit, description: x, threshold: 2}]", "a cosine between -1 and 1"),
        ("version: 1\ntopics: [{name: fit, description: x, threshold: .nan}]", "a cosine between -1 and 1"),
        ("version: 1\ntopics: [{name: fit, description: x, polarity: negative}]", "unknown field polarity"),
        (
            "version: 1\ntopics: [{name: a, description: x}, {name: a, description: y}]",
            "has a more than once",
        ),
        ("version: 1\nintents: [{name: a, description: x, polarity: bad}]", "must be negative or positive"),
        ("version: 1\nintents: [{name: a, description: x, pattern: '('}]", "is not a regular expression"),
    ],
)
def test_a_wrong_catalogue_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(DeploymentError, match=message):
        parse_topics(text, "topics.yaml")


@given(st.text(max_size=60))
def test_no_text_can_break_the_parser(text: str) -> None:
    try:
        parse_topics(text)
    except DeploymentError as error:
        assert "\n" not in str(error)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"cannot read the topics file .*none\.yaml"):
        read_topics(tmp_path / "none.yaml")


def test_the_packaged_catalogue_is_the_one_in_deploy() -> None:
    example = Path(__file__).resolve().parents[3] / "deploy" / "topics.yaml"
    assert example.read_bytes() == DEFAULT_TOPICS_PATH.read_bytes()
    assert len(default_catalogue().topics) == 12
