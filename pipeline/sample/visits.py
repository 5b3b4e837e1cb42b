"""Simulated visits: what people view, click, save, buy and say; the words and stars are real reviews."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Final, TypeAlias

from pipeline.sample.catalogue import Article
from pipeline.sample.people import Person, Shelf, requests_of

Line: TypeAlias = dict[str, object]

BEGIN: Final = datetime(2024, 3, 1, tzinfo=UTC).timestamp()
DAYS: Final = 92
_DAY: Final = 86_400.0


@dataclass
class Diary:
    """The stream as it is written: lines with their times, and the texts still to be had."""

    random: Random
    shelf: Shelf
    texts_left: int
    lines: list[tuple[float, Line]] = field(default_factory=list)

    def write(self, user_id: str, kind: str, time: float, **fields: object) -> Line:
        """Add one event; ids are given in the order of writing."""
        line: Line = {
            "event_id": f"e{len(self.lines) + 1:05d}",
            "user_id": user_id,
            "kind": kind,
            "event_time": rfc3339(time),
            **fields,
        }
        self.lines.append((time, line))
        return line


def rfc3339(time: float) -> str:
    """Epoch seconds as 2024-03-01T09:30:00Z."""
    return datetime.fromtimestamp(int(time), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def simulate_visits(person: Person, diary: Diary) -> None:
    """All visits of one person, in order of time."""
    random = diary.random
    seen: set[str] = set()
    if random.random() < 0.12:
        profile = {"size": person.size, "style": person.taste}
        diary.write(person.user_id, "profile", BEGIN + random.random() * _DAY, attributes=profile)
    visits = max(1, round(random.expovariate(1 / person.activity)))
    for start in sorted(BEGIN + _DAY * (1 + random.random() * (DAYS - 12)) for _ in range(visits)):
        _visit(person, start, seen, diary)


def _visit(person: Person, start: float, seen: set[str], diary: Diary) -> None:
    random = diary.random
    time = start
    weights = diary.shelf.weights(person, person.taste if random.random() < 0.8 else person.second)
    if random.random() < 0.07:
        diary.write(person.user_id, "query", time, text=random.choice(requests_of(person)))
    for article in random.choices(diary.shelf.articles, weights, k=random.randint(2, 6)):
        time += random.uniform(8, 90)
        if article.item_id not in seen:
            seen.add(article.item_id)
            _look(person, article, time, diary)


def _look(person: Person, article: Article, time: float, diary: Diary) -> None:
    random = diary.random
    item = {"item_id": article.item_id}
    diary.write(person.user_id, "view", time, **item)
    fit = diary.shelf.fit(person, article)
    if random.random() > 0.35 + 0.15 * fit:
        return
    diary.write(person.user_id, "click", time + 2, **item)
    if random.random() < 0.12:
        diary.write(person.user_id, "save", time + 20, **item)
    if random.random() < 0.35 + 0.12 * fit:
        diary.write(person.user_id, "cart", time + 40, **item)
        if random.random() < 0.8:
            diary.write(person.user_id, "purchase", time + 300, value=article.price, **item)
            _speak(person, article, time + 300, fit, diary)


def _speak(person: Person, article: Article, bought: float, fit: float, diary: Diary) -> None:
    """Some days later: a real review with stars, the words alone, or the stars alone."""
    random = diary.random
    time = bought + _DAY * random.uniform(2, 9)
    hoped = 3.4 + 0.6 * fit + (article.mean_rating - 4.2) - person.harshness + random.gauss(0, 1.1)
    if diary.texts_left <= 0 or random.random() > 0.85:
        if random.random() < 0.4:
            diary.write(
                person.user_id, "rating", time, item_id=article.item_id, rating=min(5, max(1, round(hoped)))
            )
        return
    review = diary.shelf.take_review(article, hoped)
    if review is None:
        return
    diary.texts_left -= 1
    rated = {} if random.random() < 0.25 else {"rating": review.rating}
    diary.write(person.user_id, "review", time, item_id=article.item_id, text=review.text, **rated)
