"""Linear heads on the frozen encoder and on the words themselves.

A head reads the pooled layers of the encoder, which know what a sentence means, and a table with one row a
token, which knows what single words say about liking. Each alone was worse on every held-out set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch.nn import functional

from models.export.checkpoint import Floats, Linear
from models.export.corpora import NEUTRAL, POSITIVE, LabelledText
from models.export.graph import GraphWriter

#: The heads read the means over tokens of these layers, counted from the last; more layers, [CLS] and
#: maxima gave nothing on the held-out sets.
POOLED_LAYERS = (-1, -2, -3)
RIDGE = 1e-3
WORD_RIDGE = 2e-3
WORD_SCALE = 2.0  # of the words' inverse document frequency, so that both parts learn at one pace
STEPS = 100
NEUTRAL_WEIGHT = 0.7  # half-hearted texts are the smallest and noisiest class

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Head:
    """Logits = features @ linear.weight + linear.bias + sum of the tokens' rows of `words` / sqrt(tokens)."""

    linear: Linear  # (features, outputs)
    words: Floats  # (vocabulary, outputs)


@dataclass(frozen=True, slots=True)
class Heads:
    """`sentiment` gives three logits, `intensity` one."""

    sentiment: Head
    intensity: Head


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the heads learn from: pooled features (texts, features) and the texts' token ids."""

    features: Floats
    ids: list[list[int]]
    vocabulary: int

    def take(self, rows: NDArray[np.bool_]) -> Evidence:
        """The texts of some rows."""
        return Evidence(self.features[rows], [self.ids[i] for i in np.flatnonzero(rows)], self.vocabulary)


def add_pooling(graph: GraphWriter, states: Sequence[str]) -> tuple[str, str]:
    """Names of the last layer's mean (batch, hidden) and of the heads' features (batch, features)."""
    means = [_mean(graph, states[layer]) for layer in POOLED_LAYERS]
    return means[0], graph.node("Concat", *means, axis=-1)


def _mean(graph: GraphWriter, values: str) -> str:
    """The mean over the tokens of (batch, tokens, width).

    By a product for each text: ReduceMean adds in another order when there are several.
    """
    tokens = graph.node("Shape", values, start=1, end=2)
    share = graph.node("Reciprocal", graph.node("Cast", tokens, to=TensorProto.FLOAT))
    row = graph.node("Expand", share, graph.node("Concat", _int(graph, 1), _int(graph, 1), tokens, axis=0))
    return graph.node("Squeeze", graph.node("MatMul", row, values), _int(graph, 1))


def _int(graph: GraphWriter, value: int) -> str:
    return graph.constant(np.array([value], np.int64))


def add_heads(graph: GraphWriter, features: str, heads: Heads, ids: str = "input_ids") -> tuple[str, str]:
    """Names of the sentiment probabilities (batch, 3) and the intensity (batch, 1)."""
    tokens = graph.node("Shape", ids, start=1, end=2)
    root = graph.node("Sqrt", graph.node("Cast", tokens, to=TensorProto.FLOAT))
    column = graph.node("Unsqueeze", features, _int(graph, 2))
    sentiment, intensity = (
        _add_head(graph, column, head, ids, root) for head in (heads.sentiment, heads.intensity)
    )
    return graph.node("Softmax", sentiment, axis=-1), graph.node("Sigmoid", intensity)


def _add_head(graph: GraphWriter, column: str, head: Head, ids: str, root: str) -> str:
    """`column` is (batch, features, 1): a product for each text, so that its neighbours change no bit."""
    product = graph.node("MatMul", graph.constant(np.ascontiguousarray(head.linear.weight.T)), column)
    linear = graph.node(
        "Add", graph.node("Squeeze", product, _int(graph, 2)), graph.constant(head.linear.bias)
    )
    words = _mean(graph, graph.node("Gather", graph.constant(head.words), ids))
    return graph.node("Add", linear, graph.node("Mul", words, root))


def fit_heads(evidence: Evidence, texts: Sequence[LabelledText]) -> Heads:
    """Heads from the training folds: every set and class weighs as the root of its size."""
    labels = np.array([text.sentiment for text in texts])
    weights = _weights(texts, labels)
    targets = np.eye(3, dtype=np.float32)[labels]
    inner = np.arange(len(texts)) % 10 == 0
    trial = _fit(evidence.take(~inner), targets[~inner], weights[~inner])
    logits = _apply(evidence.take(inner), trial)
    temperature = _temperature(logits, labels[inner], weights[inner])
    rated = np.array([text.intensity is not None for text in texts])
    strengths = np.array([text.intensity or 0.0 for text in texts], np.float32)[rated]
    pair = _fit(evidence.take(rated), np.stack([strengths, 1 - strengths], axis=1), weights[rated])
    return Heads(
        _scaled(_fit(evidence, targets, weights), 1 / temperature),
        Head(
            Linear(
                pair.linear.weight[:, :1] - pair.linear.weight[:, 1:],
                pair.linear.bias[:1] - pair.linear.bias[1:],
            ),
            pair.words[:, :1] - pair.words[:, 1:],
        ),
    )


def _scaled(head: Head, factor: float) -> Head:
    by = np.float32(factor)
    return Head(Linear(head.linear.weight * by, head.linear.bias * by), head.words * by)


def _weights(texts: Sequence[LabelledText], labels: Ints) -> Floats:
    groups = [f"{text.corpus}/{label}" for text, label in zip(texts, labels, strict=True)]
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights = (1 / np.sqrt(counts))[index]
    return np.where(labels == NEUTRAL, NEUTRAL_WEIGHT * weights, weights).astype(np.float32)


def _fit(evidence: Evidence, targets: Floats, weights: Floats) -> Head:
    """Ridge softmax regression by L-BFGS on standardised inputs, with the standardisation folded in."""
    mean, spread = evidence.features.mean(axis=0), evidence.features.std(axis=0) + 1e-3
    rarity = _rarity(evidence)
    tokens, starts, values = _word_bags(evidence, rarity)
    x, y, w = (
        torch.from_numpy(a) for a in ((evidence.features - mean) / spread, targets, weights / weights.sum())
    )
    matrix = torch.zeros(x.shape[1], y.shape[1], requires_grad=True)
    table = torch.zeros(evidence.vocabulary, y.shape[1], requires_grad=True)
    bias = torch.zeros(y.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([matrix, table, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        words = functional.embedding_bag(tokens, table, starts, mode="sum", per_sample_weights=values)
        logits = x @ matrix + bias + words
        loss = -((torch.log_softmax(logits, dim=1) * y).sum(dim=1) * w).sum()
        loss = loss + RIDGE * matrix.square().sum() + WORD_RIDGE * table.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    weight: Floats = matrix.detach().numpy() / spread[:, None]
    offset: Floats = (bias.detach().numpy() - mean @ weight).astype(np.float32)
    return Head(Linear(weight, offset), table.detach().numpy() * rarity[:, None])


def _rarity(evidence: Evidence) -> Floats:
    """Inverse document frequency of every token, 0 for those in fewer than two texts."""
    texts = np.zeros(evidence.vocabulary)
    for ids in evidence.ids:
        texts[np.unique(ids)] += 1
    rarity = WORD_SCALE * np.log((len(evidence.ids) + 1) / (texts + 1))
    return np.where(texts > 1, rarity, 0).astype(np.float32)


def _word_bags(evidence: Evidence, rarity: Floats) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All tokens in a row, where each text begins, and each token's rarity over the root of its length."""
    lengths = np.array([len(ids) for ids in evidence.ids])
    tokens = np.concatenate(evidence.ids).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    values = (rarity[tokens] / np.sqrt(np.repeat(lengths, lengths))).astype(np.float32)
    return torch.from_numpy(tokens), torch.from_numpy(starts), torch.from_numpy(values)


def _apply(evidence: Evidence, head: Head) -> Floats:
    words = np.stack([head.words[ids].sum(axis=0) / np.sqrt(len(ids)) for ids in evidence.ids])
    logits: Floats = evidence.features @ head.linear.weight + head.linear.bias + words
    return logits


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
