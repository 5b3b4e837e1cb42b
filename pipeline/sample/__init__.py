"""The shipped sample: real review texts and ratings, simulated shop and people. See README.md."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

EVENTS: Final = "events.jsonl.gz"
ITEMS: Final = "items.jsonl.gz"


def sample_bytes(name: str) -> bytes:
    """The packaged file `EVENTS` or `ITEMS`."""
    return files(__package__).joinpath(name).read_bytes()
