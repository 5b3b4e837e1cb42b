"""Softmax regression with non-negative weights, by proximal Newton steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from models.ranking.log import Floats, Ints

_RIDGE: Final = 1e-3
_ENOUGH: Final = 1e-5  # relative improvement of the loss at which a fit stops
_HALVINGS: Final = 12
#: (power, steps at most) of a fit: a convex start, then what a list needs.
SCHEDULE: Final = ((0.0, 8), (0.5, 12))


def fit_softmax(
    features: NDArray[np.float32],
    starts: Ints,
    target: Ints,
    schedule: Sequence[tuple[float, int]] = SCHEDULE,
) -> Floats:
    """Non-negative weights under which each group's target row is likely.

    features (rows, n), groups `starts[g]:starts[g + 1]`, `target` a row of each group. Maximises
    the mean of (p^q - 1) / q over groups, p the target's probability and q by the schedule (0: log p):
    with q > 0 hopeless groups count less, as they do for a list of ten. Deterministic.
    """
    problem = _Softmax(features, starts, target)
    weights = np.zeros(features.shape[1])
    for power, steps in schedule:
        weights = _minimise(problem, weights, power, steps)
    return weights


def _minimise(problem: _Softmax, weights: Floats, power: float, steps: int) -> Floats:
    """Newton steps of the non-negative quadratic model, halved until the loss falls."""
    loss, gradient, curvature = problem.model(weights, power)
    for _ in range(steps):
        direction = _non_negative_minimum(gradient - curvature @ weights, curvature) - weights
        for halving in range(_HALVINGS):
            step = weights + direction * 0.5**halving
            found = problem.loss(step, power)
            if found < loss:
                break
        else:
            return weights
        enough = loss - found < _ENOUGH * abs(loss)
        weights = step
        if enough:
            return weights
        loss, gradient, curvature = problem.model(weights, power)
    return weights


def _non_negative_minimum(linear: Floats, curvature: Floats) -> Floats:
    """The w >= 0 that minimises  linear w + w curvature w / 2."""
    from scipy.optimize import nnls

    root = np.linalg.cholesky(curvature)
    return np.asarray(nnls(root.T, np.linalg.solve(root, -linear))[0], dtype=np.float64)


class _Softmax:
    """The loss, its gradient and a positive definite curvature (the Fisher information)."""

    def __init__(self, features: NDArray[np.float32], starts: Ints, target: Ints) -> None:
        self._features = features
        self._begin = starts[:-1]
        self._sizes = np.diff(starts)
        self._rows = np.arange(len(features), dtype=np.int32)
        self._starts = starts
        self._target = target
        self._chosen = features[target].astype(np.float64)

    def _odds(self, weights: Floats) -> tuple[NDArray[np.float32], Floats, Floats]:
        """exp of each row's logit below its group's greatest, their sums, log p of the targets."""
        logits = self._features @ weights.astype(np.float32)
        logits -= np.repeat(np.maximum.reduceat(logits, self._begin), self._sizes)
        at_target = logits[self._target].astype(np.float64)
        odds = np.exp(logits, out=logits)
        total = np.add.reduceat(odds, self._begin, dtype=np.float64)
        return odds, total, at_target - np.log(total)

    def loss(self, weights: Floats, power: float) -> float:
        """What is minimised."""
        return self._value(self._odds(weights)[2], weights, power)

    def _value(self, log_p: Floats, weights: Floats, power: float) -> float:
        gain = np.expm1(power * log_p) / power if power else log_p
        return -float(gain.mean()) + _RIDGE * float(weights @ weights)

    def model(self, weights: Floats, power: float) -> tuple[float, Floats, Floats]:
        """Loss, gradient (n,) and curvature (n, n)."""
        odds, total, log_p = self._odds(weights)
        groups = len(total)
        trust = np.exp(power * log_p) / groups
        odds *= np.repeat((trust / total).astype(np.float32), self._sizes)
        gradient = (odds @ self._features) - trust @ self._chosen
        shape = (groups, len(odds))
        means = sp.csr_array((odds, self._rows, self._starts), shape=shape) @ self._features
        means = means / np.sqrt(trust)[:, None]
        weighted = self._features * odds[:, None]
        curvature = (self._features.T @ weighted).astype(np.float64) - means.T @ means
        ridge = 2 * _RIDGE
        curvature[np.diag_indices_from(curvature)] += ridge
        return self._value(log_p, weights, power), gradient + ridge * weights, curvature
