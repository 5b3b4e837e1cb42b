"""The catalogue as columns: ids, titles, categories, attributes, prices; and strings that map to memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from models.ranking.log import Ints, starts_of
from models.ranking.neighbours import Neighbours, keep_heaviest, unit_rows
from models.records import Item


@dataclass(frozen=True, slots=True)
class Strings:
    """A column of strings in two arrays, and a hash table to find them, so that it maps to memory."""

    starts: Ints
    utf8: NDArray[np.uint8]
    hashes: NDArray[np.uint64]  # ascending
    places: Ints  # of those hashes

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, place: int) -> str:
        return (
            self.utf8[self.starts[place] : self.starts[place + 1]].tobytes().decode("utf-8", "surrogatepass")
        )

    def find(self, text: str) -> int:
        """Where it stands, -1 when it does not."""
        key = _hash(text)
        at = int(np.searchsorted(self.hashes, key))
        while at < len(self.hashes) and self.hashes[at] == key:
            place = int(self.places[at])
            if self[place] == text:
                return place
            at += 1
        return -1

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Named arrays, to be stored."""
        return {
            f"{name}.starts": self.starts, f"{name}.utf8": self.utf8,
            f"{name}.hashes": self.hashes, f"{name}.places": self.places,
        }  # fmt: skip

    @classmethod
    def stored(cls, name: str, arrays: Mapping[str, NDArray[Any]]) -> Strings:
        """The column of that name."""
        return cls(*(arrays[f"{name}.{part}"] for part in ("starts", "utf8", "hashes", "places")))

    @classmethod
    def of(cls, texts: Sequence[str]) -> Strings:
        """A column of these, in this order."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        hashes = np.array([_hash(text) for text in texts], dtype=np.uint64)
        places = np.argsort(hashes, kind="stable")
        utf8 = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return cls(starts_of(lengths), utf8, hashes[places], places)


def _hash(text: str) -> np.uint64:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def merge_catalogue(items: Iterable[Item], mentioned: Iterable[str]) -> list[Item]:
    """One item an id, sorted by id: the catalogue's, and bare ones for what only feedback mentions.

    Of several with one id the greatest by content stands, so that their order does not matter.
    """
    by_id: dict[str, Item] = {}
    for item in items:
        known = by_id.get(item.item_id)
        if known is None or repr(item) > repr(known):
            by_id[item.item_id] = item
    for item_id in mentioned:
        by_id.setdefault(item_id, Item(item_id))
    return [by_id[item_id] for item_id in sorted(by_id)]


def attribute_names(item: Item) -> tuple[str, ...]:
    """What an item can share with others: its category and tags, case folded."""
    names = {name.strip().casefold() for name in (item.category, *item.tags)}
    return tuple(sorted(names - {""}))


def attribute_matrix(items: Sequence[Item], names: Sequence[str]) -> sp.csr_array:
    """Integer unit rows (see `unit_rows`) of IDF-weighted attributes, (items, names)."""
    place = {name: column for column, name in enumerate(names)}
    rows = [[place[name] for name in attribute_names(item)] for item in items]
    starts = starts_of(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
    columns = np.array([column for row in rows for column in row], dtype=np.int64)
    frequency = np.bincount(columns, minlength=len(names))
    idf = np.log((1.0 + len(items)) / (1.0 + frequency)) + 1e-3
    matrix = sp.csr_array((idf[columns], columns, starts), shape=(len(items), len(names)))
    return unit_rows(matrix)


def without_common(unit: sp.csr_array, pairs: int) -> sp.csr_array:
    """Without the commonest columns, so that at most `pairs` pairs of items share one.

    They say least and cost most.
    """
    frequency = np.bincount(unit.indices, minlength=unit.shape[1]).astype(np.int64)
    order = np.argsort(frequency, kind="stable")
    common = np.zeros(len(frequency), dtype=bool)
    common[order[np.cumsum(frequency[order] ** 2) > pairs]] = True
    kept = unit.copy()
    kept.data = np.where(common[unit.indices], 0.0, unit.data).astype(np.float32)
    kept.eliminate_zeros()
    return kept


def attribute_postings(
    unit: sp.csr_array, weight: NDArray[np.float64], most: int, tie_rank: Ints
) -> Neighbours:
    """From an attribute to its items with the greatest `weight` in (0, 1], by which they are valued."""
    postings = unit.T.tocsr()
    postings.data = weight[postings.indices]
    return keep_heaviest(sp.csr_array(postings), most, tie_rank)
