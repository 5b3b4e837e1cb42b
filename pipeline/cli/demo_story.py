"""The demo's three people: what each says, and how their lists read before and after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.records import RankedItem
from pipeline.sample import EVENTS, ITEMS, sample_bytes

WORDS_FILE: Final = "words.jsonl"
PLACES: Final = 6
SAID_AT: Final = "2024-05-31T20:00:00Z"


@dataclass(frozen=True, slots=True)
class Said:
    """One more piece of feedback, in words and without stars."""

    user_id: str
    about: str  # what the person did before, for the heading
    item_id: str | None  # None: a request
    text: str

    @property
    def event_id(self) -> str:
        """Its id in the stream."""
        return f"words-{self.user_id}"

    def line(self) -> str:
        """The event as it is appended to the stream."""
        what = {"kind": "review", "item_id": self.item_id} if self.item_id else {"kind": "query"}
        event = {"event_id": self.event_id, "user_id": self.user_id, "event_time": SAID_AT, "text": self.text}
        return json.dumps(event | what)


STORY: Final = (
    Said(
        "nora",
        "bought the {title} eight days ago and writes",
        "975",
        "The zipper broke after a day and the seams came apart. Sending it back.",
    ),
    Said(
        "ines",
        "bought the {title} two weeks ago and writes",
        "995",
        "I love this skirt! The linen is soft and cool, and I have worn it all week.",
    ),
    Said("ruth", "has shopped for summer and now asks", None, "looking for a warm wool coat for winter"),
)


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where the demo's input lies and its tables go."""

    folder: Path

    @property
    def events(self) -> Path:
        """The sample stream."""
        return self.folder / "input" / EVENTS

    @property
    def items(self) -> Path:
        """The sample catalogue."""
        return self.folder / "input" / ITEMS

    @property
    def words(self) -> Path:
        """The three events that are appended."""
        return self.folder / "input" / WORDS_FILE

    @property
    def before(self) -> Path:
        """Tables of the first run."""
        return self.folder / "before"

    @property
    def after(self) -> Path:
        """Tables of the second run."""
        return self.folder / "after"

    def write_input(self) -> None:
        """Lay the sample and the three events out as files that `livelist run` reads too."""
        self.events.parent.mkdir(parents=True, exist_ok=True)
        self.events.write_bytes(sample_bytes(EVENTS))
        self.items.write_bytes(sample_bytes(ITEMS))
        self.words.write_text("".join(f"{said.line()}\n" for said in STORY), encoding="utf-8")


def left_and_came(
    before: Sequence[RankedItem], after: Sequence[RankedItem]
) -> tuple[list[RankedItem], list[RankedItem]]:
    """Places of the old list whose items are gone, and places of the new one whose items are new."""
    old, new = {item.item_id for item in before}, {item.item_id for item in after}
    return [item for item in before if item.item_id not in new], [
        item for item in after if item.item_id not in old
    ]
