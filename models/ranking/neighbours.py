"""A sparse matrix from rows (items, words, categories ...) to items, cut to each row's heaviest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from models.ranking.log import Ints, spans, starts_of

#: Unit vectors are scaled to this before rounding to integers, so that their dot products, at most
#: its square, are exact in float32 and the same in any order and on any machine.
UNIT = 2048


@dataclass(frozen=True, slots=True)
class Neighbours:
    """CSR: row r leads to `items[starts[r]:starts[r + 1]]`, ascending, with positive `values`."""

    starts: Ints
    items: NDArray[np.int32]
    values: NDArray[np.float32]

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    def gather(self, rows: Ints) -> tuple[Ints, NDArray[np.int32], NDArray[np.float32]]:
        """All entries of `rows`, in order: (position in `rows`, item, value), each of shape (entries,)."""
        positions, lengths = spans(self.starts, rows)
        return np.arange(len(rows)).repeat(lengths), self.items[positions], self.values[positions]

    def relative(self) -> Neighbours:
        """The same with values divided by the mean of the rows' greatest ones, so that sources compare."""
        filled = self.starts[:-1][np.diff(self.starts) > 0]
        if not len(filled):
            return self
        scale = float(np.maximum.reduceat(self.values, filled).astype(np.float64).mean())
        return Neighbours(self.starts, self.items, (self.values / scale).astype(np.float32))

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Named arrays, to be stored."""
        return {f"{name}.starts": self.starts, f"{name}.items": self.items, f"{name}.values": self.values}

    @classmethod
    def stored(cls, name: str, arrays: Mapping[str, NDArray[Any]]) -> Neighbours | None:
        """The matrix of that name, None when it is not stored."""
        if f"{name}.starts" not in arrays:
            return None
        return cls(arrays[f"{name}.starts"], arrays[f"{name}.items"], arrays[f"{name}.values"])


def keep_heaviest(matrix: sp.csr_array, most: int, tie_rank: Ints) -> Neighbours:
    """The `most` largest positive values of each row; of equals, those with the smaller `tie_rank`.

    The matrix has no duplicate entries.
    """
    starts = matrix.indptr.astype(np.int64)
    items, values = matrix.indices, matrix.data
    kept = values > 0
    for row in np.flatnonzero(np.diff(starts) > most):
        begin, end = starts[row], starts[row + 1]
        kept[begin:end] &= _heaviest(values[begin:end], most, tie_rank, items[begin:end])
    lengths = np.diff(starts_of(kept.astype(np.int64))[starts])
    cut = sp.csr_array((values[kept], items[kept], starts_of(lengths)), shape=matrix.shape)
    cut.sort_indices()
    return Neighbours(cut.indptr.astype(np.int64), cut.indices.astype(np.int32), cut.data.astype(np.float32))


def _heaviest(values: NDArray[Any], most: int, tie_rank: Ints, items: NDArray[np.int32]) -> NDArray[np.bool_]:
    least = np.partition(values, len(values) - most)[len(values) - most]
    kept: NDArray[np.bool_] = values > least
    equal = np.flatnonzero(values == least)
    room = most - int(np.count_nonzero(kept))
    if room < len(equal):
        equal = equal[np.argsort(tie_rank[items[equal]])[:room]]
    kept[equal] = True
    return kept


def unit_rows(matrix: sp.csr_array) -> sp.csr_array:
    """Rows scaled to length UNIT and rounded to integers (float32), so that products are exact."""
    squares = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(UNIT, squares, out=np.zeros_like(squares), where=squares > 0)
    scaled = matrix.copy()
    scaled.data = np.rint(scaled.data * np.repeat(scale, np.diff(matrix.indptr))).astype(np.float32)
    scaled.eliminate_zeros()
    return scaled


def nearest(unit: sp.csr_array, most: int, tie_rank: Ints) -> Neighbours:
    """Each row's `most` nearest other rows by cosine, from integer unit rows; values in (0, 1]."""
    transposed = unit.T.tocsr()
    blocks = []
    for begin in range(0, unit.shape[0], 2048):
        product = (unit[begin : begin + 2048] @ transposed).tocoo()
        other = product.row + begin != product.col
        data = product.data[other] / float(UNIT * UNIT)
        block = sp.csr_array((data, (product.row[other], product.col[other])), shape=product.shape)
        blocks.append(keep_heaviest(block, most, tie_rank))
    return stack(blocks)


def stack(blocks: list[Neighbours]) -> Neighbours:
    """Blocks of rows, one below the other."""
    if not blocks:
        return Neighbours(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
    lengths = np.concatenate([np.diff(block.starts) for block in blocks])
    items = np.concatenate([block.items for block in blocks])
    return Neighbours(starts_of(lengths), items, np.concatenate([block.values for block in blocks]))
