"""The directed, decayed item graph: what people went on to after an item.

For a before b in a user's canonical order, g <= max_gap places apart:
W[a, b] += decay^(g-1), W[b, a] += backward * decay^(g-1), each times the strengths of
both. Wn = W / outdegree^damping / mean row sum. Counts are integers, so sums are exact.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from models.ranking.config import IndexConfig
from models.ranking.log import Floats, Ints

_COUNT = 1 << 16  # a pair of neighbours of full strength


def learn_graph(
    user: Ints, item: Ints, strength: Floats, items: int, config: IndexConfig
) -> tuple[sp.csr_array, sp.csr_array]:
    """(both directions, forward only), each (items, items) and normalised.

    Rows are interactions in canonical order; strength in [0, 1], 0 takes no part.
    """
    rows = np.flatnonzero(strength > 0)
    order = rows[np.argsort(user[rows], kind="stable")]
    forward = _forward_counts(user[order], item[order], strength[order], items, config)
    back = np.rint(config.backward * _COUNT) / _COUNT
    both = sp.csr_array(forward + forward.T * back)
    return _normalise(both, config.damping), _normalise(forward, config.damping)


def _forward_counts(
    user: Ints, item: Ints, strength: Floats, items: int, config: IndexConfig
) -> sp.csr_array:
    keys, counts = [], []
    for gap in range(1, min(config.max_gap, len(user) - 1) + 1):
        pair = np.flatnonzero(user[:-gap] == user[gap:])
        before, after = item[:-gap][pair], item[gap:][pair]
        weight = config.gap_decay ** (gap - 1) * strength[:-gap][pair] * strength[gap:][pair]
        apart = before != after
        keys.append((before * items + after)[apart])
        counts.append(np.rint(weight * _COUNT)[apart])
    if not keys:
        return sp.csr_array((items, items), dtype=np.float64)
    distinct, place = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(place, weights=np.concatenate(counts), minlength=len(distinct))
    return sp.csr_array((total, (distinct // items, distinct % items)), shape=(items, items))


def _normalise(counts: sp.csr_array, damping: float) -> sp.csr_array:
    degree = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(1.0, degree**damping, out=np.zeros_like(degree), where=degree > 0)
    normal = counts.copy()
    normal.data = counts.data * np.repeat(scale, np.diff(counts.indptr))
    sums = np.asarray(normal.sum(axis=1)).ravel()
    connected = sums > 0
    if connected.any():
        normal.data /= float(np.mean(sums[connected]))
    return normal
