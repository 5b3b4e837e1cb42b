"""Short made-up texts of many domains: neither one domain nor one way of saying it is to be learnt by heart.

What real sets lack: negated judgements, requests and questions that judge nothing, lukewarm verdicts, texts
that mix the languages, and what is said of hotels, films, cars or services in Chinese.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import yaml

from models.training.default_model.corpora import NEGATIVE, NEUTRAL, POSITIVE, Example
from models.training.default_model.glossary import words

PER_FRAME = 400
#: Texts of two or three clauses for each domain, language and side; and how often a verdict ends one.
JOINED, WITH_VERDICT = 60, 0.4
VERDICTS = "verdicts"
#: What stands between clauses and at the end, and what a question begins with.
BETWEEN = {"en": (", ", ". ", " and ", "! "), "zh": ("，", "，", "。", "！", " ")}
ENDS = {"en": ("", ".", "!"), "zh": ("", "。", "！")}
ASKED = {"en": ("{}", "{}?", "hi, {}?"), "zh": ("{}", "{}？", "请问{}？")}

_DATA = Path(__file__).parent / "data"


@lru_cache(maxsize=1)
def phrases() -> dict[str, list[str]]:
    """The lists of `data/phrases.yaml`."""
    lists: dict[str, list[str]] = yaml.safe_load((_DATA / "phrases.yaml").read_text(encoding="utf-8"))
    return lists


@lru_cache(maxsize=1)
def clauses() -> dict[str, dict[str, list[str]]]:
    """The lists of `data/clauses.yaml` by domain."""
    domains: dict[str, dict[str, list[str]]] = yaml.safe_load(
        (_DATA / "clauses.yaml").read_text(encoding="utf-8")
    )
    return domains


def made_up_texts(seed: int) -> list[Example]:
    """Every phrase in its class, and a draw of each frame filled with things."""
    random, p = np.random.default_rng(seed), phrases()
    examples = list(_whole_phrases())
    for verdict, sentiment in (("good", POSITIVE), ("bad", NEGATIVE)):
        english, chinese, mixed = p[f"{verdict}_en"], p[f"{verdict}_zh"], p["frames_mixed"]
        examples += _fill(p["frames_en"], p["things_en"], english, "en", sentiment, random)
        examples += _fill(p["frames_zh"], p["things_zh"], chinese, "zh", sentiment, random)
        examples += _fill(mixed, p["things_zh"], english, "zh", sentiment, random, PER_FRAME // 2)
        examples += _fill(mixed, p["things_en"], chinese, "zh", sentiment, random, PER_FRAME // 2)
    for verdict, sentiment in (("better", POSITIVE), ("worse", NEGATIVE)):
        examples += _could_not(p["could_frames_en"], p[f"{verdict}_en"], p["things_en"], sentiment, random)
    examples += _fill(p["frames_zh"], p["things_zh"], p["lukewarm_zh"], "zh", NEUTRAL, random, PER_FRAME // 2)
    for language in ("en", "zh"):
        asked = product(p[f"ask_{language}"], p[f"goods_{language}"])
        examples += [_neutral(frame.format(thing), language) for frame, thing in asked]
    for language, (verdict, sentiment) in product(("en", "zh"), (("good", POSITIVE), ("bad", NEGATIVE))):
        texts = _joined_clauses(f"{verdict}_{language}", language, random)
        examples += [Example("made_up", text, language, "train", sentiment) for text in texts]
    return examples + [_neutral(text, language) for language in ASKED for text in _questions(language)]


def _whole_phrases() -> Iterator[Example]:
    for language, mark in (("en", "!"), ("zh", "！")):
        for verdict, sentiment in (("praise", POSITIVE), ("blame", NEGATIVE)):
            for text in phrases()[f"{verdict}_{language}"]:
                yield Example("made_up", text, language, "train", sentiment)
                yield Example("made_up", text + mark, language, "train", sentiment)
        for text in (*phrases()[f"lukewarm_{language}"], *phrases()[f"plain_{language}"]):
            yield _neutral(text, language)


def _joined_clauses(side: str, language: str, random: np.random.Generator) -> Iterator[str]:
    """Every clause and verdict alone, then draws of two or three clauses of a domain."""
    verdicts = clauses()[VERDICTS][side]
    for domain, lists in clauses().items():
        yield from lists[side]
        for _ in range(0 if domain == VERDICTS else JOINED):
            drawn = [lists[side][i] for i in random.permutation(len(lists[side]))[: random.integers(2, 4)]]
            if random.random() < WITH_VERDICT:
                drawn[-1] = str(random.choice(verdicts))
            yield str(random.choice(BETWEEN[language])).join(drawn) + str(random.choice(ENDS[language]))


def _questions(language: str) -> Iterator[str]:
    for lists in clauses().values():
        for frame, question in product(ASKED[language], lists.get(f"ask_{language}", ())):
            yield frame.format(question)


def _neutral(text: str, language: str) -> Example:
    return Example("made_up", text, language, "train", NEUTRAL, 0.0)


def _fill(
    frames: Sequence[str],
    things: Sequence[str],
    verdicts: Sequence[str],
    language: str,
    sentiment: int,
    random: np.random.Generator,
    count: int = PER_FRAME,
) -> list[Example]:
    pool = [frame.format(thing, verdict) for frame, thing, verdict in product(frames, things, verdicts)]
    drawn = random.choice(len(pool), min(count, len(pool)), replace=False)
    return [Example("made_up", pool[i], language, "train", sentiment) for i in sorted(drawn)]


def _could_not(
    frames: Sequence[str],
    comparatives: Sequence[str],
    things: Sequence[str],
    sentiment: int,
    random: np.random.Generator,
) -> list[Example]:
    """What could not be better is good: every frame with every comparative, of some thing."""
    texts = [
        frame.format(comparative, thing=things[int(random.integers(len(things)))])
        for frame, comparative in product(frames, comparatives)
    ]
    return [Example("made_up", text, "en", "train", sentiment) for text in texts]


def dictionary_texts() -> list[Example]:
    """The glossary's words as texts of their own: only their embedding is known."""
    return [Example("glossary", word, "zh", "train") for word in words()]
