"""How the encoder's logits and the n-grams' score become one calibrated answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from models.training.tasks import Floats

#: What the n-grams' score adds to the logits of negative, neutral, positive.
DIRECTION = np.array([-0.5, 0.0, 0.5])

#: The texts fitted on are of domains that both parts know. In another one the n-grams' score shrinks by
#: itself, as fewer of them are known, while the encoder stays as sure; so they keep at least this.
LEAST_TRUST = 0.5


@dataclass(frozen=True, slots=True)
class Fusion:
    """Logits are `plain` * the encoder's for a text without n-grams.

    Else they are `scale` * the encoder's + `trust` * score * DIRECTION.
    """

    plain: float = 1.0
    scale: float = 1.0
    trust: float = 0.0

    def apply(self, logits: Floats, scores: Floats, wide: Floats) -> Floats:
        """Fused logits (texts, 3); `wide` is 1 for a text with n-grams, else 0."""
        scale = np.where(wide > 0, self.scale, self.plain)
        fused: Floats = scale[:, None] * logits + self.trust * scores[:, None] * DIRECTION
        return fused


def fit_fusion(logits: Floats, scores: Floats, wide: Floats, targets: Floats, weights: Floats) -> Fusion:
    """The three numbers with the least weighted log-loss on texts that neither part learnt from.

    `targets` are probabilities (texts, 3).
    """
    share = weights / weights.sum()
    logits, scores = logits.astype(np.float64), scores.astype(np.float64)  # for the gradient by differences

    def loss(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        fused = Fusion(*values.tolist()).apply(logits, scores, wide)
        return float(-((targets * log_softmax(fused, axis=1)).sum(axis=1) * share).sum())

    bounds = [(0.05, 5.0), (0.05, 5.0), (LEAST_TRUST, 5.0)]
    return Fusion(*minimize(loss, np.array([1.0, 0.6, 0.5]), method="L-BFGS-B", bounds=bounds).x.tolist())
