"""The learned linear fusion of the sources.

The score of item i is  sum over channels of  a x/max + b sqrt(x/max)  plus the static part
of the item (popularity, trend, recency, quality). Weights are fitted when an index is
built: an inner index is learned without each user's last known interaction, and a softmax
regression over each user's candidates predicts it, in canonical order, all at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.ranking.log import Floats, Ints
from models.ranking.sources import SOURCES, Source

#: Static features of an item and their default weights of x and sqrt(x); x is in [0, 1], quality in [-1, 1].
STATICS: Final[dict[str, tuple[float, float]]] = {
    "popularity": (0.5, 0.5), "trend": (0.5, 0.5), "recency": (0.0, 0.0), "quality": (0.25, 0.0),
}  # fmt: skip
_RIDGE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Fusion:
    """Weights of x/max and sqrt(x/max) by channel, and of the static features."""

    channels: Mapping[str, tuple[float, float]]
    statics: Mapping[str, tuple[float, float]]
    floors: Mapping[str, float] = field(default_factory=dict)  # least normaliser, where evidence is thin
    figures: Mapping[str, float] = field(default_factory=dict)  # of the fit

    def weights(self, channel: str) -> tuple[float, float]:
        """Of x/max and of its root."""
        return self.channels.get(channel, (0.0, 0.0))

    def uses(self, source: Source) -> bool:
        """Whether any channel of the source has a weight."""
        return any(any(self.weights(name)) for name in source.channels())

    def as_json(self) -> dict[str, Any]:
        """For the manifest; floats survive a round trip exactly."""
        return {
            "channels": {name: list(pair) for name, pair in self.channels.items()},
            "statics": {name: list(pair) for name, pair in self.statics.items()},
            "floors": dict(self.floors),
            "figures": dict(self.figures),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Fusion:
        """The inverse of `as_json`."""
        return cls(
            {name: (pair[0], pair[1]) for name, pair in stored["channels"].items()},
            {name: (pair[0], pair[1]) for name, pair in stored["statics"].items()},
            stored["floors"],
            stored["figures"],
        )


def default_fusion() -> Fusion:
    """What is used until there is enough feedback to fit."""
    channels: dict[str, tuple[float, float]] = {}
    for source in SOURCES:
        share = len(source.decays)
        for name in source.channels():
            channels[name] = (source.default[0] / share, source.default[1] / share)
    return Fusion(channels, dict(STATICS))


def squash(ratio: Floats, weights: tuple[float, float]) -> Floats:
    """a z + b sqrt(z), elementwise."""
    linear, root = weights
    if root == 0.0:
        return linear * ratio
    return linear * ratio + root * np.sqrt(ratio)


def fit_softmax(features: NDArray[np.float32], starts: Ints, target: Ints, lower: Floats) -> Floats:
    """Weights that maximise the mean log-probability of each group's target row, with a ridge.

    features (rows, n), groups `starts[g]:starts[g + 1]`, `target` a row of each group, `lower` (n,)
    the least value of each weight. Deterministic: one full-batch quasi-Newton descent from 0.
    """
    groups = len(target)
    group = np.repeat(np.arange(groups), np.diff(starts))
    chosen = features[target].astype(np.float64).sum(axis=0)

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = (features @ weights.astype(np.float32)).astype(np.float64)
        logits -= np.maximum.reduceat(logits, starts[:-1])[group]
        odds = np.exp(logits)
        total = np.add.reduceat(odds, starts[:-1])
        probability = (odds / total[group]).astype(np.float32)
        expected = (probability @ features).astype(np.float64)
        value = float(np.log(total).sum() - logits[target].sum()) / groups
        ridge = _RIDGE * float(weights @ weights)
        return value + ridge, (expected - chosen) / groups + 2 * _RIDGE * weights

    bounds = [(low if np.isfinite(low) else None, None) for low in lower]
    found = minimize(
        loss, np.maximum(np.zeros(features.shape[1]), np.where(np.isfinite(lower), lower, 0.0)),
        jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100},
    )  # fmt: skip
    return np.asarray(found.x, dtype=np.float64)
