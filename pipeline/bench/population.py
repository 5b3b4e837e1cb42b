"""A simulated population: users and items as popular as in life, behaviour and words."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from models.adapters.jsonl import parse_item
from pipeline.sample import ITEMS, sample_bytes

KINDS: Final = ("view", "view", "click", "cart", "purchase")
_OPENINGS: Final = (
    "soft, warm and beautifully made", "fits perfectly, I love the colour", "better than I had hoped",
    "the seam came apart after a day", "scratchy and see-through, sent it back", "runs two sizes small",
    "nice enough, but not for this price", "exactly what I was looking for",
)  # fmt: skip
_DETAILS: Final = (
    "zipper", "sleeve", "colour", "fabric", "button", "collar", "lining", "hem", "pocket", "strap", "waist",
    "length", "cut", "print", "knit",
)  # fmt: skip


class Population:
    """Users that come back, Zipf distributed, and items likewise. One seed gives one sequence of events."""

    def __init__(
        self, users: int = 2_000, items: int | Sequence[str] = 1_000, texts: float = 0.1, seed: int = 7
    ) -> None:
        self._chance = random.Random(seed)
        self._users = users
        self._items = [f"item{n}" for n in range(items)] if isinstance(items, int) else list(items)
        self._texts = texts  # share of events with words of their own
        self._made = 0
        self.words = 0  # events with words, so far

    def event(self) -> dict[str, object]:
        """The next event, at the time of this call."""
        self._made += 1
        event: dict[str, object] = {
            "event_id": f"b{self._made:08d}",
            "user_id": f"user{self._zipf(self._users):05d}",
            "item_id": self._items[self._zipf(len(self._items))],
            "event_time": time.time(),
        }
        if self._chance.random() < self._texts:
            self.words += 1
            details = " and ".join(self._chance.sample(_DETAILS, 3))
            return event | {"kind": "review", "text": f"{self._chance.choice(_OPENINGS)}; the {details}"}
        return event | {"kind": self._chance.choice(KINDS)}

    def line(self) -> bytes:
        """The next event as a line."""
        return json.dumps(self.event()).encode() + b"\n"

    def _zipf(self, count: int) -> int:
        return int(count ** self._chance.random()) - 1


def append_at_rate(population: Population, path: Path, rate: float, seconds: float) -> int:
    """Appends lines at even distances, some 50 times a second at most; returns how many."""
    with path.open("ab", buffering=0) as file:
        return send_at_rate(population, lambda lines: file.write(b"".join(lines)), rate, seconds)


def send_at_rate(
    population: Population, send: Callable[[list[bytes]], object], rate: float, seconds: float
) -> int:
    """Hands lines to `send` at even distances, some 50 times a second at most; returns how many."""
    total, sent, began = round(rate * seconds), 0, time.monotonic()
    while sent < total:
        gone = time.monotonic() - began
        due = total - sent if gone >= seconds else round(gone * rate) - sent
        if due > 0:
            send([population.line() for _ in range(due)])
            sent += due
        time.sleep(max(0.0, max(0.02, 1 / rate) - (time.monotonic() - began - gone)))
    return sent


def shop_items() -> dict[str, str]:
    """item_id -> title of the shipped sample's shop."""
    import gzip

    lines = gzip.decompress(sample_bytes(ITEMS)).splitlines()
    return {item.item_id: item.title for item in map(parse_item, lines)}
