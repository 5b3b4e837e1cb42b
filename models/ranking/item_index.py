"""The item index as ranking sees it: named arrays, in memory or memory-mapped, with typed access."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.ranking.catalogue import Strings
from models.ranking.content import TextVectors
from models.ranking.fusion import Fusion
from models.ranking.log import Floats, Ints
from models.ranking.neighbours import Neighbours
from models.ranking.statistics import RatingStatistics
from models.ranking.store import map_arrays, read_manifest

_REMEMBERED: Final = 1 << 17  # item ids whose place a process remembers


@dataclass(eq=False)
class ItemIndex:
    """What is known of the items. Items are numbered by sorted item_id."""

    arrays: Mapping[str, NDArray[Any]]
    meta: Mapping[str, Any]
    version: str = ""
    _places: dict[str, int] = field(default_factory=dict, repr=False)
    _titles: dict[str, str] = field(default_factory=dict, repr=False)
    _ids: dict[int, str] = field(default_factory=dict, repr=False)
    _matrices: dict[str, Neighbours | None] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, directory: Path, verify: bool = True) -> ItemIndex:
        """The index in a directory, memory-mapped, verified once and then shared within the process."""
        return _opened(str(directory.resolve()), verify)

    @cached_property
    def items(self) -> int:
        """Number of items."""
        return len(self.popularity)

    @cached_property
    def item_ids(self) -> Strings:
        return Strings.stored("item_ids", self.arrays)

    @cached_property
    def titles(self) -> Strings:
        return Strings.stored("titles", self.arrays)

    @cached_property
    def category(self) -> Ints:
        """Row of each item's category in the matrix `category`, -1 without one."""
        return self.arrays["category_of"]

    @cached_property
    def available(self) -> NDArray[np.bool_]:
        return self.arrays["available"]

    @cached_property
    def popularity(self) -> Floats:
        return self.arrays["popularity"]

    @cached_property
    def item_users(self) -> Floats:
        """How many users have feedback on an item, of whatever strength and liking."""
        return self.arrays["users"]

    @cached_property
    def idf(self) -> Floats:
        return self.arrays["idf"]

    @cached_property
    def static_score(self) -> Floats:
        """What an item scores without any evidence."""
        return self.arrays["static_score"]

    @cached_property
    def static_order(self) -> Ints:
        """Available items by static score, popularity, id."""
        return self.arrays["static_order"]

    @cached_property
    def fusion(self) -> Fusion:
        return Fusion.from_json(self.meta["fusion"])

    @cached_property
    def history(self) -> int:
        """Newest interactions of a user that are evidence."""
        return int(self.meta["config"]["history"])

    @cached_property
    def clock(self) -> int:
        """Microseconds; decay in the index is as of then."""
        return int(self.meta["clock"])

    @cached_property
    def ratings(self) -> RatingStatistics:
        """Of all ratings of the feedback, for imputation."""
        return RatingStatistics(**self.meta["ratings"])

    def mean_rating(self, item_id: str) -> float | None:
        """Of one item, None without any rating."""
        place = self.find(item_id)
        mean = float(self.arrays["mean_rating"][place]) if place >= 0 else math.nan
        return None if math.isnan(mean) else mean

    def matrix(self, name: str) -> Neighbours | None:
        """A source's matrix, None when the feedback or the catalogue gave none."""
        if name not in self._matrices:
            self._matrices[name] = Neighbours.stored(name, self.arrays)
        return self._matrices[name]

    def find(self, item_id: str) -> int:
        """An item's number, -1 when it is unknown."""
        place = self._places.get(item_id)
        if place is None:
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            place = self._places[item_id] = self.item_ids.find(item_id)
        return place

    def item_id(self, place: int) -> str:
        """The id of an item's number."""
        found = self._ids.get(place)
        if found is None:
            if len(self._ids) >= _REMEMBERED:
                self._ids.clear()
            found = self._ids[place] = self.item_ids[place]
        return found

    def find_text(self, text_hash: int) -> int:
        """Row of a request's text in the matrix `query_texts`, -1 when it has no vector here."""
        return int(self._queries.find(np.array([text_hash], dtype=np.int64))[0])

    @cached_property
    def _queries(self) -> TextVectors:
        hashes = self.arrays.get("query_hashes", np.zeros(0, dtype=np.int64))
        return TextVectors(hashes, np.zeros((len(hashes), 1), dtype=np.int8))

    def find_attribute(self, name: str) -> int:
        """Row of a case-folded category or tag in the matrix `attribute_postings`, or -1."""
        return self._attributes.find(name)

    @cached_property
    def _attributes(self) -> Strings:
        return Strings.stored("attributes", self.arrays)

    def find_topic(self, name: str) -> int:
        """Row of a topic in the matrix `topics`, or -1."""
        return self._topics.find(name)

    @cached_property
    def _topics(self) -> Strings:
        return Strings.stored("topic_names", self.arrays)

    def title(self, item_id: str) -> str:
        """An item's title, or its id."""
        title = self._titles.get(item_id)
        if title is None:
            if len(self._titles) >= _REMEMBERED:
                self._titles.clear()
            place = self.find(item_id)
            title = self._titles[item_id] = (self.titles[place] if place >= 0 else "") or item_id
        return title


@lru_cache(maxsize=4)
def _opened(directory: str, verify: bool) -> ItemIndex:
    path = Path(directory)
    manifest = read_manifest(path)
    return ItemIndex(map_arrays(path, manifest, verify), manifest.meta, manifest.version)
