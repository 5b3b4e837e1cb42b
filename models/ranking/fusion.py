"""The learned linear fusion of the sources.

The score of item i is the weighted sum of the channels' strengths plus the static part of
the item (popularity, trend, recency, quality). Weights are fitted when an index is built:
an inner index is learned without each user's last known interaction, and a softmax
regression over each user's candidates predicts it, all at once and in canonical order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from models.ranking.log import Floats
from models.ranking.sources import SOURCES, Source, decay_table

#: Static features of an item and their default weights of x and sqrt(x); x is in [0, 1], quality in [-1, 1].
STATICS: Final[dict[str, tuple[float, float]]] = {
    "popularity": (0.4, 0.2), "trend": (0.2, 0.2), "recency": (0.0, 0.0), "quality": (0.25, 0.0),
    "users": (0.0, 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class Fusion:
    """Weights of the channels' strengths, and of the static features and their roots."""

    channels: Mapping[str, float]
    statics: Mapping[str, tuple[float, float]]
    figures: Mapping[str, float] = field(default_factory=dict)  # of the fit
    by_popularity: bool = False  # evidence only decides among items that as many users had
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
            "by_popularity": self.by_popularity,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Fusion:
        """The inverse of `as_json`."""
        statics = {name: (pair[0], pair[1]) for name, pair in stored["statics"].items()}
        return cls(stored["channels"], statics, stored["figures"], stored["by_popularity"])


def default_fusion() -> Fusion:
    """What is used until there is enough feedback to fit."""
    channels = {name: source.default for source in SOURCES for name in source.channels()}
    return Fusion(channels, dict(STATICS))


def squash(feature: Floats, weights: tuple[float, float]) -> Floats:
    """a x + b sqrt(max(x, 0)), elementwise."""
    linear, root = weights
    return linear * feature + root * np.sqrt(np.maximum(feature, 0.0))
