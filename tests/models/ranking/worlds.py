"""Small worlds for the tests: views and a catalogue from a seed."""

from __future__ import annotations

import numpy as np

from models.ranking.index import learn_index
from models.ranking.item_index import ItemIndex
from models.ranking.log import encode_log, merge_logs
from models.records import MICROS_PER_DAY, Item
from models.text import text_hash, word_ids
from models.views import Interaction, ProfileAttribute, Query, UserView

START = 1_600_000_000_000_000
WORDS = ("zipper", "linen", "blouse", "warm", "guitar", "string", "pick", "strap", "amplifier", "cable")


def interaction(
    item: str, number: int, liking: float = 0.8, strength: float = 1.0, text: str = "", kind: str = "review"
) -> Interaction:
    return Interaction(
        item_id=item,
        event_ids=(f"e{number:06d}",),
        time=START + number * MICROS_PER_DAY // 10,
        kind=kind,
        strength=strength,
        liking=liking,
        conflict=False,
        rating=3.0 + 2.0 * liking,
        polarity=None,
        words=word_ids(text).tobytes(),
        text_hashes=(text_hash(text),) if text else (),
    )


def view(
    user: str,
    interactions: tuple[Interaction, ...] = (),
    queries: tuple[Query, ...] = (),
    profile: tuple[ProfileAttribute, ...] = (),
    topics: tuple[tuple[str, float], ...] = (),
) -> UserView:
    ordered = tuple(sorted(interactions, key=lambda one: (one.time, one.event_ids[-1])))
    newest = max((one.time for one in ordered), default=0)
    return UserView(user, ordered, queries, profile, topics, newest)


def query(text: str, number: int, event_id: str = "q1") -> Query:
    return Query(event_id, START + number, word_ids(text).tobytes(), text_hash(text), (), None)


def declared(name: str, value: str) -> ProfileAttribute:
    return ProfileAttribute(f"p-{name}", name, value, word_ids(value).tobytes())


def random_views(seed: int, users: int = 12, items: int = 15, longest: int = 8) -> list[UserView]:
    """Users with 0 to `longest` interactions, some disliked, some with words, some with requests."""
    rng = np.random.default_rng(seed)
    views = []
    for user in range(users):
        chosen = rng.permutation(items)[: int(rng.integers(0, longest + 1))]
        told = tuple(
            interaction(
                f"i{int(item):02d}",
                int(rng.integers(0, 50)) * 1000 + user * 20 + place,
                liking=float(rng.choice([-0.7, 0.1, 0.5, 0.9], p=[0.2, 0.2, 0.3, 0.3])),
                strength=float(rng.choice([0.3, 1.0])),
                text=" ".join(rng.choice(WORDS, 3)) if rng.random() < 0.7 else "",
            )
            for place, item in enumerate(chosen)
        )
        asked = (query(str(rng.choice(WORDS)), 1000),) if rng.random() < 0.3 else ()
        said = (declared("style", str(rng.choice(WORDS))),) if rng.random() < 0.3 else ()
        topics = (("quality", 0.5),) if rng.random() < 0.3 else ()
        views.append(view(f"u{user:02d}", told, asked, said, topics))
    return views


def random_items(seed: int, items: int = 18) -> list[Item]:
    """A catalogue with some items that nobody touched and some that are not available."""
    rng = np.random.default_rng(seed + 1)
    return [
        Item(
            f"i{item:02d}",
            title=" ".join(rng.choice(WORDS, 2)),
            category=str(rng.choice(["clothes", "music"])),
            tags=tuple(rng.choice(WORDS, 2)),
            available=bool(rng.random() < 0.9),
        )
        for item in range(items)
    ]


def random_vectors(views: list[UserView], seed: int) -> list[tuple[int, str, bytes]]:
    """A vector for every text and request."""
    hashes = {text for one in views for told in one.interactions for text in told.text_hashes}
    hashes |= {asked.text_hash for one in views for asked in one.queries}
    rng = np.random.default_rng(seed + 2)
    return [(text, "", rng.normal(size=16).astype("<f2").tobytes()) for text in sorted(hashes)]


def learn(views: list[UserView], items: list[Item] | None = None, seed: int | None = None) -> ItemIndex:
    vectors = random_vectors(views, seed) if seed is not None else []
    return learn_index(merge_logs([encode_log(views)]), items or [], vectors)
