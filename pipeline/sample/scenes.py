"""What is written by hand: the three people of the demo, and the flaws that every real stream has."""

from __future__ import annotations

import json
from random import Random
from typing import Final

from pipeline.sample.catalogue import Article
from pipeline.sample.visits import BEGIN, DAYS, Diary, Line, rfc3339

#: Who -> (days before the end, kind, class, words of which one should be a tag), oldest first.
_SCRIPTS: Final[dict[str, tuple[tuple[float, str, str, str], ...]]] = {
    "nora": (
        (30, "purchase", "Jeans", "denim high-waisted"),
        (22, "click", "Knits", "striped cotton"),
        (16, "cart", "Jackets", "denim cropped"),
        (9, "purchase", "Jackets", "warm embroidered"),
        (8, "view", "Outerwear", "warm cosy"),
    ),
    "ines": (
        (27, "click", "Dresses", "striped"),
        (20, "view", "Pants", "linen"),
        (15, "purchase", "Skirts", "linen pink"),
        (6, "click", "Blouses", "silk dotted"),
        (4, "view", "Jeans", "slim"),
    ),
    "ruth": (
        (33, "purchase", "Dresses", "summer"),
        (25, "click", "Swim", "printed floral"),
        (18, "save", "Shorts", "summer striped"),
        (10, "purchase", "Knits", "linen summer"),
        (5, "view", "Dresses", "floral"),
    ),
}
_DAY: Final = 86_400.0
_LURE: Final = "Amazing quality and super fast delivery!! Visit my profile page for a discount code today."


def write_leading_people(diary: Diary) -> None:
    """The histories of nora, ines and ruth."""
    for user_id, script in _SCRIPTS.items():
        seen: set[str] = set()
        for days, kind, category, tags in script:
            article = _best(diary.shelf.articles, category, set(tags.split()), seen)
            seen.add(article.item_id)
            time = BEGIN + (DAYS - days) * _DAY
            diary.write(user_id, "view", time, item_id=article.item_id)
            if kind != "view":
                diary.write(user_id, kind, time + 60, item_id=article.item_id)


def _best(articles: list[Article], category: str, tags: set[str], seen: set[str]) -> Article:
    fitting = [
        article for article in articles if article.category == category and article.item_id not in seen
    ]
    return max(fitting, key=lambda article: (len(tags & set(article.tags)), len(article.reviews)))


def write_flaws(lines: list[str], diary: Diary) -> list[str]:
    """Duplicates, edits, retractions, an erasure, a script's bursts, and lines that nobody can use."""
    random = diary.random
    reviews = [line for _, line in diary.lines if line["kind"] == "review"]
    chosen = random.sample(reviews, 60)
    extra = [random.choice(lines) for _ in range(90)]
    written = [_edit(line) for line in chosen[:15]]
    written += [_retract(line, number) for number, line in enumerate(chosen[15:25])]
    written += [_again(line) for line in chosen[25:45]]
    written += [_misrated(line) for line in chosen[45:50]]
    written += _script_of_a_shill(diary.shelf.articles, random)
    written += _script_of_a_crawler(diary.shelf.articles, random)
    extra += [json.dumps(line, ensure_ascii=False) for line in written]
    return [*_scatter(lines, [*extra, *_UNUSABLE], random), _ERASURE]


def _scatter(lines: list[str], extra: list[str], random: Random) -> list[str]:
    """Put each extra line somewhere in the second half."""
    places = sorted(
        ((random.randint(len(lines) // 2, len(lines)), line) for line in extra), key=lambda pair: -pair[0]
    )
    scattered = list(lines)
    for place, line in places:
        scattered.insert(place, line)
    return scattered


def _edit(line: Line) -> Line:
    return {
        **line,
        "revision": 1,
        "text": f"{line['text']} Edited after a second wash: still happy to answer questions.",
    }


def _retract(line: Line, number: int) -> Line:
    kept = {name: line[name] for name in ("user_id", "event_time")}
    return {"event_id": f"x-retract-{number}", "kind": "retract", "target_event_id": line["event_id"], **kept}


def _again(line: Line) -> Line:
    """The same words once more under another id: sent twice by the person, not by the network."""
    return {**line, "event_id": f"x-again-{line['event_id']}"}


def _misrated(line: Line) -> Line:
    return {**line, "event_id": f"x-scale-{line['event_id']}", "rating": 11}


def _script_of_a_shill(articles: list[Article], random: Random) -> list[Line]:
    """One text on a dozen articles."""
    time = BEGIN + 60 * _DAY
    return [
        {
            "event_id": f"x-shill-{number:02d}",
            "user_id": "best-deals-4u",
            "kind": "review",
            "event_time": rfc3339(time + 3_600 * number),
            "item_id": article.item_id,
            "rating": 5,
            "text": _LURE,
        }
        for number, article in enumerate(random.sample(articles, 12))
    ]


def _script_of_a_crawler(articles: list[Article], random: Random) -> list[Line]:
    """A whole catalogue viewed within eight seconds."""
    time = int(BEGIN + 70 * _DAY)
    return [
        {
            "event_id": f"x-crawl-{number:03d}",
            "user_id": "fetcher-7",
            "kind": "view",
            "event_time": time + number * 8 / 220,
            "item_id": random.choice(articles).item_id,
        }
        for number in range(220)
    ]


_ERASURE: Final = (
    '{"event_id": "x-erase", "user_id": "zoe-02", "kind": "erase", "event_time": "2024-06-01T00:00:00Z"}'
)
_UNUSABLE: Final = [
    '{"event_id": "x-1", "user_id": "ada-01", "kind": "view", "event_time": "2024-05-02T10:00:00Z", "item_',
    '["not", "an", "object"]',
    "<html><body>502 Bad Gateway</body></html>",
    '{"event_id": "x-2", "kind": "view", "event_time": "2024-05-03T11:00:00Z", "item_id": "1078"}',
    '{"event_id": "x-3", "user_id": "iris-01", "kind": "veiw", "event_time": "2024-05-03T12:00:00Z", "item_id": "862"}',
    '{"event_id": "x-4", "user_id": "iris-01", "kind": "view", "event_time": "yesterday", "item_id": "862"}',
    '{"event_id": "x-5", "user_id": "ivy-01", "kind": "rating", "event_time": "2024-05-04T09:00:00Z", "item_id": "862", "rating": NaN}',
    '{"event_id": "x-6", "user_id": "ivy-01", "kind": "rating", "event_time": "2024-05-04T09:00:00Z", "item_id": "862", "rating": "five"}',
    '{"event_id": "x-7", "user_id": "jo-01", "kind": "like", "event_time": "2024-05-05T09:00:00Z"}',
    '{"event_id": "x-8", "user_id": "jo-01", "kind": "like", "event_time": "1970-01-01T00:00:00Z", "item_id": "862"}',
    '{"event_id": "x-9", "user_id": "jo-01", "kind": "like", "event_time": "2999-01-01T00:00:00Z", "item_id": "862"}',
    '{"event_id": "x-10", "user_id": "kate-01", "kind": "comment", "event_time": "2024-05-06T08:00:00Z", "item_id": "862",'
    ' "text": "Does it run small? Write to kate@example.com or call +1 202 555 0147."}',
]  # fmt: skip
