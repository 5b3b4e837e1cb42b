"""What is counted of items and ratings; sums are of integers, so their order does not matter."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.ranking.config import IndexConfig
from models.ranking.log import Floats, Ints
from models.records import MICROS_PER_DAY, Micros

_UNIT = float(1 << 30)


@dataclass(frozen=True, slots=True)
class RatingStatistics:
    """Of all ratings of the log; None without any."""

    count: int
    mean: float | None
    median: float | None
    mode: float | None
    sd: float | None  # of the population

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def rating_statistics(rating: Floats) -> RatingStatistics:
    """Mean, median, mode (the smallest of equals) and standard deviation; NaN is no rating."""
    given = np.sort(rating[~np.isnan(rating)])  # sorted: the same sum in any order of the log
    if not len(given):
        return RatingStatistics(0, None, None, None, None)
    values, counts = np.unique(given, return_counts=True)
    mode = float(values[np.argmax(counts)])
    return RatingStatistics(
        len(given), float(given.mean()), float(np.median(given)), mode, float(given.std())
    )


def exact_sums(place: Ints, values: Floats, size: int) -> Floats:
    """Sums of `values` by `place`, each value rounded to a multiple of 2^-30 so that they are exact."""
    return np.bincount(place, weights=np.rint(values * _UNIT), minlength=size) / _UNIT


def item_statistics(
    item: Ints, time: Ints, strength: Floats, liking: Floats, items: int, clock: Micros, config: IndexConfig
) -> dict[str, NDArray[Any]]:
    """Per item, each (items,): popularity, decayed popularity, recency in [0, 1], shrunk quality, users.

    `users` counts every interaction alike, of which a user has one an item. A disliked interaction
    adds no popularity. quality b = sum(strength x (liking - mean)) / (n + prior).
    """
    liked = np.where(liking >= 0, strength, 0.0)
    half_life = config.half_life_days * MICROS_PER_DAY
    freshness = np.exp2(-np.maximum(clock - time, 0) / half_life)
    weight = exact_sums(item, strength, items)
    mean = float(exact_sums(np.zeros_like(item), strength * liking, 1)[0]) / max(float(weight.sum()), 1.0)
    newest = np.full(items, np.iinfo(np.int64).min, dtype=np.int64)
    np.maximum.at(newest, item, time)
    age = np.where(weight > 0, (clock - np.where(weight > 0, newest, 0)) / half_life, np.inf)
    return {
        "popularity": exact_sums(item, liked, items),
        "trend": exact_sums(item, liked * freshness, items),
        "recency": np.exp2(-np.maximum(age, 0.0)),
        "quality": exact_sums(item, strength * (liking - mean), items) / (weight + config.quality_prior),
        "users": np.bincount(item, minlength=items).astype(np.float64),
    }


def mean_ratings(item: Ints, rating: Floats, items: int) -> tuple[Floats, Ints]:
    """Each item's mean rating (NaN without any) and number of ratings."""
    given = ~np.isnan(rating)
    counts = np.bincount(item[given], minlength=items)
    sums = exact_sums(item[given], rating[given], items)
    return np.divide(sums, counts, out=np.full(items, np.nan), where=counts > 0), counts
