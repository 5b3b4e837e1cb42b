"""The learned linear fusion of the sources.

The score of item i is the weighted sum of the channels' strengths plus the static part of
the item (popularity, trend, recency, quality). Weights are fitted when an index is built:
an inner index is learned without each user's last known interaction, and a softmax
regression over each user's candidates predicts it, all at once and in canonical order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.ranking.log import Floats, Ints
from models.ranking.sources import SOURCES, Source, decay_table

#: Static features of an item and their default weights of x and sqrt(x); x is in [0, 1], quality in [-1, 1].
STATICS: Final[dict[str, tuple[float, float]]] = {
    "popularity": (0.4, 0.2), "trend": (0.2, 0.2), "recency": (0.0, 0.0), "quality": (0.25, 0.0),
    "users": (0.0, 0.0),
}  # fmt: skip
_RIDGE: Final = 1e-3
#: (power, steps at most) of a fit: a convex start, then what a list needs.
FULL_FIT: Final = ((0.0, 25), (0.5, 50))


@dataclass(frozen=True)
class Fusion:
    """Weights of the channels' strengths, and of the static features and their roots."""

    channels: Mapping[str, float]
    statics: Mapping[str, tuple[float, float]]
    figures: Mapping[str, float] = field(default_factory=dict)  # of the fit
    _mixes: dict[str, Floats | None] = field(default_factory=dict, repr=False, compare=False)

    def mix(self, source: Source) -> Floats | None:
        """Weight of evidence of a source by position, shape (PLACES,); None when it has none."""
        if source.name not in self._mixes:
            parts = [
                weight * decay_table(decay)
                for name, decay in zip(source.channels(), source.decays, strict=True)
                if (weight := self.channels.get(name, 0.0)) != 0.0
            ]
            self._mixes[source.name] = np.sum(parts, axis=0) if parts else None
        return self._mixes[source.name]

    def as_json(self) -> dict[str, Any]:
        """For the manifest; floats survive a round trip exactly."""
        return {
            "channels": dict(self.channels),
            "statics": {name: list(pair) for name, pair in self.statics.items()},
            "figures": dict(self.figures),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Fusion:
        """The inverse of `as_json`."""
        statics = {name: (pair[0], pair[1]) for name, pair in stored["statics"].items()}
        return cls(stored["channels"], statics, stored["figures"])


def default_fusion() -> Fusion:
    """What is used until there is enough feedback to fit."""
    channels = {name: source.default for source in SOURCES for name in source.channels()}
    return Fusion(channels, dict(STATICS))


def squash(feature: Floats, weights: tuple[float, float]) -> Floats:
    """a x + b sqrt(max(x, 0)), elementwise."""
    linear, root = weights
    return linear * feature + root * np.sqrt(np.maximum(feature, 0.0))


def fit_softmax(
    features: NDArray[np.float32],
    starts: Ints,
    target: Ints,
    schedule: Sequence[tuple[float, int]] = FULL_FIT,
) -> Floats:
    """Non-negative weights under which each group's target row is likely.

    features (rows, n), groups `starts[g]:starts[g + 1]`, `target` a row of each group. Maximises
    the mean of (p^q - 1) / q over groups, p the target's probability and q by the schedule (0: log p):
    with q > 0 hopeless groups count less, as they do for a list of ten. Deterministic.
    """
    from scipy.optimize import minimize

    problem = _Softmax(features, starts, target)
    weights = np.zeros(features.shape[1])
    for power, steps in schedule:
        found = minimize(
            problem.loss, weights, args=(power,), jac=True, method="L-BFGS-B",
            bounds=[(0.0, None)] * len(weights), options={"maxiter": steps},
        )  # fmt: skip
        weights = np.asarray(found.x, dtype=np.float64)
    return weights


class _Softmax:
    """The loss and its gradient."""

    def __init__(self, features: NDArray[np.float32], starts: Ints, target: Ints) -> None:
        self._features = features
        self._begin = starts[:-1]
        self._group = np.repeat(np.arange(len(target)), np.diff(starts))
        self._target = target
        self._chosen = features[target].astype(np.float64)

    def loss(self, weights: Floats, power: float) -> tuple[float, Floats]:
        logits = (self._features @ weights.astype(np.float32)).astype(np.float64)
        logits -= np.maximum.reduceat(logits, self._begin)[self._group]
        odds = np.exp(logits)
        total = np.add.reduceat(odds, self._begin)
        log_p = logits[self._target] - np.log(total)
        trust = np.exp(power * log_p)
        gain = np.expm1(power * log_p) / power if power else log_p
        probability = (odds * (trust / total)[self._group]).astype(np.float32)
        groups = len(self._target)
        gradient = ((probability @ self._features) - trust @ self._chosen) / groups
        value = -float(gain.sum()) / groups + _RIDGE * float(weights @ weights)
        return value, gradient + 2 * _RIDGE * weights
