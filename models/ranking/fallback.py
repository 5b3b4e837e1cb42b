"""Lists where feedback is too thin to learn from: by how many users had an item, and nothing else.

Evidence decides only among items that as many users had: all that it can add is less than one
user's worth. What a user asks for or declares keeps its weight, as nobody else's feedback is
needed to understand it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.ranking.fusion import STATICS, Fusion, default_fusion
from models.ranking.sources import SOURCES, Source, decay_table

#: Kinds of evidence that only decide among equals.
_GUESSED: Final = frozenset({"liked", "disliked", "topics"})


def popularity_fusion(
    arrays: Mapping[str, NDArray[Any]], history: int, figures: Mapping[str, float]
) -> Fusion:
    """The fusion of such lists over an index's arrays; `figures` are kept with it."""
    default = default_fusion()
    guessed = [source for source in SOURCES if source.kind in _GUESSED]
    most = sum(_most(source, default, arrays, history) for source in guessed)
    share = 0.5 * _least_step(arrays["users"]) / most if most > 0 else 0.0
    channels = dict(default.channels)
    for source in guessed:
        channels |= {name: share * channels[name] for name in source.channels()}
    statics = dict.fromkeys(STATICS, (0.0, 0.0)) | {"users": (1.0, 0.0)}
    return Fusion(channels, statics, figures, by_popularity=True)


def _least_step(users: NDArray[Any]) -> float:
    """The least difference that one user makes to the static feature `users`."""
    most = float(users.max(initial=0))
    return math.log1p(1.0 / most) / math.log1p(most) if most > 0 else 1.0


def _most(source: Source, fusion: Fusion, arrays: Mapping[str, NDArray[Any]], history: int) -> float:
    """No user's evidence gives or takes more than this by a source."""
    values = arrays.get(f"{source.matrix}.values", np.zeros(0))
    weights = [abs(fusion.channels[name]) for name in source.channels()]
    greatest = max(float(values.max(initial=0.0)), 1.0) * source.spread
    curve = sum(w * decay_table(decay)[:history] for w, decay in zip(weights, source.decays, strict=True))
    return greatest * float(np.sum(curve))
