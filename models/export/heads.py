"""Linear heads on the frozen encoder, and the numbers that say how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.export.checkpoint import Floats, Linear
from models.export.corpora import NEUTRAL, POSITIVE, LabelledText
from models.export.graph import GraphWriter

#: The heads read the means over tokens of these layers, counted from the last; more layers, [CLS] and
#: maxima gave nothing on the held-out sets.
POOLED_LAYERS = (-1, -2, -3)
RIDGE = 1e-3
NEUTRAL_WEIGHT = 0.7  # half-hearted texts are the smallest and noisiest class

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Heads:
    """`sentiment` gives three logits, `intensity` one, both from pooled features (features,)."""

    sentiment: Linear
    intensity: Linear


def add_pooling(graph: GraphWriter, states: Sequence[str]) -> tuple[str, str]:
    """Names of the last layer's mean (batch, hidden) and of the heads' features (batch, features)."""
    means = [graph.node("ReduceMean", states[layer], axes=[1], keepdims=0) for layer in POOLED_LAYERS]
    return means[0], graph.node("Concat", *means, axis=-1)


def add_heads(graph: GraphWriter, features: str, heads: Heads) -> tuple[str, str]:
    """Names of the sentiment probabilities (batch, 3) and the intensity (batch, 1)."""
    logits = [
        graph.node("Gemm", features, graph.constant(head.weight), graph.constant(head.bias))
        for head in (heads.sentiment, heads.intensity)
    ]
    return graph.node("Softmax", logits[0], axis=-1), graph.node("Sigmoid", logits[1])


def fit_heads(features: Floats, texts: Sequence[LabelledText]) -> Heads:
    """Heads from the training folds: every set and class weighs as the root of its size."""
    labels = np.array([text.sentiment for text in texts])
    weights = _weights(texts, labels)
    inner = np.arange(len(texts)) % 10 == 0
    trial = _fit(features[~inner], np.eye(3, dtype=np.float32)[labels[~inner]], weights[~inner])
    temperature = _temperature(_apply(features[inner], trial), labels[inner], weights[inner])
    sentiment = _fit(features, np.eye(3, dtype=np.float32)[labels], weights)
    rated = np.array([text.intensity is not None for text in texts])
    strengths = np.array([text.intensity or 0.0 for text in texts], np.float32)[rated]
    both = np.stack([strengths, 1 - strengths], axis=1)
    pair = _fit(features[rated], both, weights[rated])
    intensity = Linear(pair.weight[:, :1] - pair.weight[:, 1:], pair.bias[:1] - pair.bias[1:])
    return Heads(Linear(sentiment.weight / temperature, sentiment.bias / temperature), intensity)


def _weights(texts: Sequence[LabelledText], labels: Ints) -> Floats:
    groups = [f"{text.corpus}/{label}" for text, label in zip(texts, labels, strict=True)]
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights = (1 / np.sqrt(counts))[index]
    return np.where(labels == NEUTRAL, NEUTRAL_WEIGHT * weights, weights).astype(np.float32)


def _fit(features: Floats, targets: Floats, weights: Floats) -> Linear:
    """Ridge softmax regression by L-BFGS on standardised features, with the standardisation folded in."""
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-3
    x, y, w = (torch.from_numpy(a) for a in ((features - mean) / spread, targets, weights / weights.sum()))
    matrix = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    bias = torch.zeros(y.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([matrix, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = -((torch.log_softmax(x @ matrix + bias, dim=1) * y).sum(dim=1) * w).sum()
        loss = loss + RIDGE * matrix.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    weight: Floats = matrix.detach().numpy() / spread[:, None]
    return Linear(weight, (bias.detach().numpy() - mean @ weight).astype(np.float32))


def _apply(features: Floats, head: Linear) -> Floats:
    return features @ head.weight + head.bias


def _temperature(logits: Floats, labels: Ints, weights: Floats) -> float:
    """The divisor of the logits with the least log-loss on texts that the fit did not see."""

    def loss(temperature: float) -> float:
        probability = softmax(logits / temperature)[np.arange(len(labels)), labels]
        return float(-(weights * np.log(np.maximum(probability, 1e-9))).sum())

    return min((float(t) for t in np.arange(0.6, 2.5, 0.05)), key=loss)


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result


def auc(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Area under the ROC curve, ties at their average rank (Mann-Whitney)."""
    _, index, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[index]
    hits = int(positive.sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * (len(score) - hits)))


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error over equal-width bins (Guo et al. 2017)."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(confidence[index == b].mean()) - float(right[index == b].mean()))
        * float((index == b).mean())
        for b in range(bins)
        if (index == b).any()
    ]
    return sum(gaps)


def sentiment_metrics(probabilities: Floats, labels: Ints) -> dict[str, float]:
    """AUC and accuracy without the neutral texts; over all three classes accuracy and ECE."""
    polarity = probabilities[:, 2] - probabilities[:, 0]
    sided = labels != NEUTRAL
    right = probabilities.argmax(axis=1) == labels
    figures = {
        "texts": float(len(labels)),
        "auc": auc(labels[sided] == POSITIVE, polarity[sided]),
        "accuracy": float(((polarity[sided] > 0) == (labels[sided] == POSITIVE)).mean()),
    }
    if not sided.all():
        figures["accuracy_3"] = float(right.mean())
        figures["ece_3"] = calibration_error(probabilities.max(axis=1), right)
    return {name: round(value, 4) for name, value in figures.items()}
