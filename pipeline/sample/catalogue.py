"""A catalogue from reviews: what reviewers say about an article more often than about its class names it."""

from __future__ import annotations

import csv
import io
import math
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from pipeline.sample.vocabulary import ADJECTIVES, COLOURS, MATERIALS, NOUNS, PATTERNS, PRICES, SHAPES, STYLES

MIN_REVIEWS: Final = 7
#: Above it an id of the data set stands for many articles at once.
MAX_REVIEWS: Final = 400
MAX_PER_CLASS: Final = 24

#: Clothing id, department, class.
Key: TypeAlias = tuple[str, str, str]

_WORD: Final = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Review:
    """One real review."""

    rating: int
    text: str
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class Article:
    """One article of the simulated shop with its real reviews."""

    item_id: str
    title: str
    category: str
    tags: tuple[str, ...]
    price: float
    reviews: tuple[Review, ...]

    @property
    def mean_rating(self) -> float:
        """Mean of the real stars."""
        return sum(review.rating for review in self.reviews) / len(self.reviews)


def read_reviews(path: Path) -> dict[Key, list[Review]]:
    """Reviews by (clothing id, department, class) from the zip as Kaggle ships it."""
    reviews: dict[Key, list[Review]] = defaultdict(list)
    with zipfile.ZipFile(path) as archive:
        name = next(
            name for name in archive.namelist() if name.endswith(".csv") and not name.startswith("__")
        )
        rows = csv.DictReader(io.TextIOWrapper(archive.open(name), encoding="utf-8", newline=""))
        for row in rows:
            text = " ".join(row["Review Text"].split())
            if len(text) >= 30 and row["Class Name"] in NOUNS:
                key = (row["Clothing ID"], row["Department Name"], row["Class Name"])
                reviews[key].append(Review(int(row["Rating"]), text, frozenset(_WORD.findall(text.lower()))))
    return reviews


def build_catalogue(reviews: Mapping[Key, Sequence[Review]], random: Random) -> list[Article]:
    """The most reviewed articles of every class, each with a title of its own."""
    by_class: dict[str, list[Key]] = defaultdict(list)
    for key in sorted(reviews, key=lambda key: (-len(reviews[key]), int(key[0]))):
        if MIN_REVIEWS <= len(reviews[key]) <= MAX_REVIEWS and len(by_class[key[2]]) < MAX_PER_CLASS:
            by_class[key[2]].append(key)
    articles: list[Article] = []
    titles: set[str] = set()
    seen: set[str] = set()
    for name in sorted(by_class):
        common = Counter(word for key in by_class[name] for review in reviews[key] for word in review.words)
        total = sum(len(reviews[key]) for key in by_class[name])
        for key in by_class[name]:
            if key[0] not in seen:
                seen.add(key[0])
                articles.append(_article(key, reviews[key], common, total, titles, random))
    return articles


def _article(
    key: Key,
    reviews: Sequence[Review],
    common: Counter[str],
    total: int,
    titles: set[str],
    random: Random,
) -> Article:
    item_id, department, class_name = key
    own = Counter(word for review in reviews for word in review.words)

    def said(words: str) -> float:
        return _evidence(words.split(), own, len(reviews), common, total)

    found = sorted(
        (
            (said(words), place, name)
            for place, names in enumerate((SHAPES, COLOURS, PATTERNS, MATERIALS))
            for name, words in names.items()
            if said(words) > 3
        ),
        reverse=True,
    )
    noun = _noun(class_name, said)
    title = _title(noun, [(place, name) for _, place, name in found], titles)
    titles.add(title)
    tags = sorted(name for _, _, name in found[:6])
    price = round(PRICES[department] * random.uniform(0.6, 1.6)) - 0.05
    return Article(item_id, title, class_name, tuple(tags), price, tuple(reviews))


def _evidence(words: Iterable[str], own: Counter[str], size: int, common: Counter[str], total: int) -> float:
    """Signed log-likelihood ratio of an article's use of words against its class's; 0 where rare."""
    here, there = sum(own[word] for word in words), sum(common[word] for word in words)
    if here < 2 or here / size <= max(0.05, 1.3 * there / total):
        return 0.0
    return 2 * (here * math.log(here * total / (size * there)) - (here - there * size / total))


def _noun(class_name: str, said: Callable[[str], float]) -> str:
    plain, *others = NOUNS[class_name]
    best = max(others, key=lambda noun: said(f"{noun} {noun}s"), default=plain)
    if said(f"{best} {best}s") < 6:
        return plain
    return f"{best} {plain}" if best in ADJECTIVES else best


def _title(noun: str, found: Sequence[tuple[int, str]], titles: set[str]) -> str:
    """The two most telling words of different places before the noun, or a style's name to be unique."""
    telling: dict[int, str] = {}
    for place, name in found:
        if name not in noun and len(telling) < 2:
            telling.setdefault(place, name)
    words = [telling[place] for place in sorted(telling)]
    title = " ".join([*words, noun]).capitalize()
    if words and title not in titles:
        return title
    start = len(titles) % len(STYLES)
    named = (f"{style} {title.lower()}" for style in STYLES[start:] + STYLES[:start])
    return next(title for title in named if title not in titles)
