"""How the encoder's logits and the n-grams' score become one answer, and how sure it may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from models.training.tasks import Floats

#: Weight of the squared weights of `Sureness`: cross-validated log-loss is least from .001 to .003.
RIDGE = 1e-3
MOST_SURENESS = 1.0  # of the exponent, either way

Vector = NDArray[np.float64]

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

    def loss(values: Vector) -> float:
        fused = Fusion(*values.tolist()).apply(logits, scores, wide)
        return float(-((targets * log_softmax(fused, axis=1)).sum(axis=1) * share).sum())

    bounds = [(0.05, 5.0), (0.05, 5.0), (LEAST_TRUST, 5.0)]
    return Fusion(*minimize(loss, np.array([1.0, 0.6, 0.5]), method="L-BFGS-B", bounds=bounds).x.tolist())


@dataclass(frozen=True, slots=True)
class Sureness:
    """Logits times exp(embedding @ weights + bias): what a text is about tells how often its kind is misread.

    One temperature for all leaves films too sure and cosmetics too unsure. No polarity changes its side.
    """

    weights: Floats  # (dimension,)
    bias: float

    def apply(self, logits: Floats, embeddings: Floats) -> Floats:
        """Calibrated logits (texts, outputs); `embeddings` are unit rows (texts, dimension)."""
        exponent = np.clip(embeddings @ self.weights + self.bias, -MOST_SURENESS, MOST_SURENESS)
        calibrated: Floats = np.exp(exponent)[:, None] * logits
        return calibrated


def fit_sureness(
    logits: Floats, embeddings: Floats, targets: Floats, weights: Floats, ridge: float = RIDGE
) -> Sureness:
    """The sureness with the least weighted log-loss, ridge included, on texts that nothing was learnt from.

    `targets` are probabilities (texts, outputs).
    """
    share = weights / weights.sum()
    logits, embeddings = logits.astype(np.float64), embeddings.astype(np.float64)

    def loss(values: Vector) -> tuple[float, Vector]:
        weight, bias = values[:-1], values[-1]
        sure = np.exp(np.clip(embeddings @ weight + bias, -MOST_SURENESS, MOST_SURENESS))
        logs = log_softmax(sure[:, None] * logits, axis=1)
        slope = ((np.exp(logs) - targets) * share[:, None] * logits).sum(axis=1) * sure
        gradient = np.append(slope @ embeddings + 2 * ridge * weight, slope.sum())
        return float(-(targets * logs).sum(axis=1) @ share + ridge * weight @ weight), gradient

    start = np.zeros(embeddings.shape[1] + 1)
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return Sureness(best[:-1].astype(np.float32), float(best[-1]))
