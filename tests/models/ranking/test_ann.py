"""Inverted lists find nearly what an exact search finds, exactly valued, in any batch."""

from __future__ import annotations

import numpy as np
import pytest

from models.ranking.ann import InvertedLists
from models.ranking.content import nearest_items, to_int8
from models.ranking.neighbours import Neighbours


def _clustered(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, 32))
    return to_int8(
        (centres[rng.integers(0, 40, count)] + 0.5 * rng.normal(size=(count, 32))).astype(np.float32)
    )


def test_most_of_the_true_neighbours_are_found_with_their_true_values() -> None:
    vectors = _clustered(3000)
    exact = nearest_items(vectors[:50], vectors, 20, False, exact_items=10_000)
    approximate = nearest_items(vectors[:50], vectors, 20, False, exact_items=10)
    shared = 0
    for row in range(50):
        true = dict(zip(*_row(exact, row), strict=True))
        found = dict(zip(*_row(approximate, row), strict=True))
        shared += len(true.keys() & found.keys())
        assert all(abs(true[item] - found[item]) < 1e-6 for item in true.keys() & found.keys())
    assert shared > 0.9 * 50 * 20


def _row(near: Neighbours, row: int) -> tuple[list[int], list[float]]:
    begin, end = near.starts[row], near.starts[row + 1]
    return near.items[begin:end].tolist(), near.values[begin:end].tolist()


@pytest.mark.parametrize("equals", [False, True])
def test_a_query_finds_the_same_alone_and_in_a_batch(equals: bool) -> None:
    vectors = _clustered(1000)
    if equals:  # many items are equally near
        vectors = np.sign(vectors[:, :5])
    lists = InvertedLists.build(vectors)
    together = lists.search(vectors[:20], 10)
    for row in range(20):
        assert _row(lists.search(vectors[row : row + 1], 10), 0) == _row(together, row)


def test_no_item_is_its_own_neighbour_and_items_without_text_are_not_found() -> None:
    vectors = _clustered(500)
    vectors[::7] = 0
    near = nearest_items(vectors, vectors, 10, True, exact_items=10)
    assert near.rows == 500
    for row in range(500):
        items, _ = _row(near, row)
        assert row not in items
        assert all(item % 7 for item in items)
