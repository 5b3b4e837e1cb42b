"""Titles of items for people, from the item index that a run has published beside its tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.errors import LivelistError


def titles_of(output: Path) -> Callable[[str], str]:
    """item_id -> title; the item_id itself where no index or no title is at hand."""
    from models.ranking.item_index import ItemIndex
    from models.ranking.store import read_pointer

    try:
        directory = read_pointer(output)
        index = ItemIndex.open(directory, verify=False) if directory else None
    except (OSError, LivelistError):
        index = None

    def title(item_id: str) -> str:
        place = index.find(item_id) if index else -1
        return (index.titles[place] if index and place >= 0 else "") or item_id

    return title
