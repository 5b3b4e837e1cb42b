"""Settings of the index and of ranking, with the defaults that `livelist` uses everywhere.

The fusion weights are not here: they are fitted when an index is built (see `fusion.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """How the item index is learned."""

    history: int = 20  # newest interactions of a user that are evidence
    max_gap: int = 10  # items this far apart in a user's history are connected
    gap_decay: float = 0.8  # weight of a pair at gap g: gap_decay^(g - 1)
    backward: float = 0.3  # weight of the direction against time
    damping: float = 0.3  # power of an item's out-degree that its row is divided by
    neighbours: int = 200  # per item and source, at most
    postings: int = 500  # items per word or attribute, at most
    words_per_item: int = 96  # the heaviest by tf-idf
    query_texts: int = 100  # items per known query text
    half_life_days: float = 90.0  # of decayed popularity
    quality_prior: float = 10.0  # pseudo-interactions that shrink an item's mean liking
    fit_users: int = 2_000  # users whose last interaction fits the fusion, at most
    fit_minimum: int = 50  # fewer: no weights are fitted
    exact_items: int = 50_000  # dense neighbours are exact up to this many items

    def __post_init__(self) -> None:
        for name in ("history", "max_gap", "neighbours", "words_per_item", "query_texts", "fit_minimum"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def two_hop_width(self, items: int) -> int:
        """Neighbours of an item that the second hop starts from: fewer where there are many items."""
        return max(10, min(50, 2_000_000 // max(items, 1)))


@dataclass(frozen=True, slots=True)
class RankingConfig:
    """How a list is made from the scores."""

    exclude_seen: bool = True  # items that the user already has feedback on
    diversity: float = 0.1  # share of the score at risk when an item resembles those above it; 0: none
    diversity_pool: int = 2  # times k: how far down a more diverse item is looked for
    reasons: int = 3  # per item, at most
    query_half_life_days: float = 7.0  # of a request
    queries: int = 3  # the newest that count

    def __post_init__(self) -> None:
        if not 0.0 <= self.diversity < 1.0:
            raise ValueError(f"diversity must be in [0, 1), got {self.diversity}")


DEFAULT_INDEX = IndexConfig()
DEFAULT_RANKING = RankingConfig()

__all__ = ["DEFAULT_INDEX", "DEFAULT_RANKING", "IndexConfig", "RankingConfig"]
