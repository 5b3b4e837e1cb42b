"""The texts scored last, with their results: people repeat themselves, and events are delivered again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from models.records import ScoredText

CACHED_CHARACTERS: Final = 4_000  # a longer text is not kept


class RecentTexts:
    """The results of the most recently used texts, at most `size`; anything but a score is not kept."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: OrderedDict[str, ScoredText] = OrderedDict()
        self._lock = threading.Lock()

    def get_all(self, texts: Iterable[str]) -> dict[str, ScoredText]:
        """Those of the texts that are known."""
        found: dict[str, ScoredText] = {}
        with self._lock:
            for text in texts:
                if text in self._results:
                    self._results.move_to_end(text)
                    found[text] = self._results[text]
        return found

    def put_all(self, results: Mapping[str, object]) -> None:
        """Keeps the scores among the results."""
        with self._lock:
            for text, result in results.items():
                if isinstance(result, ScoredText) and len(text) <= CACHED_CHARACTERS:
                    self._results[text] = result
            while len(self._results) > self._size:
                self._results.popitem(last=False)
