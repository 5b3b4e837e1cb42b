"""Predictions of a model over a set, and their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.training.batches import Collator
from models.training.device import autocast
from models.training.network import FeedbackModel
from models.training.tasks import Floats, Ints, LabelledTexts, Task

EVALUATION_BATCH = 64

#: Figures by task, then by name.
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Logits by task (texts, outputs) and unit embeddings (texts, hidden), in the order of the texts."""

    logits: dict[str, Floats]
    embeddings: Floats


def predict(
    model: FeedbackModel, collator: Collator, bf16: bool = False, batch_size: int = EVALUATION_BATCH
) -> Predictions:
    """Runs a model, without dropout, over every text of a set."""
    training = model.training
    model.eval()
    count = len(collator.texts)
    logits = {task.name: np.zeros((count, task.outputs), np.float32) for task in model.tasks}
    embeddings: Floats | None = None
    with torch.inference_mode():
        for rows in collator.in_order_of_length(batch_size):
            batch = collator.collate(rows)
            with autocast(collator.device, bf16):
                output = model(batch.ids, batch.mask, batch.extra)
            pooled = functional.normalize(output.pooled.float(), dim=-1).cpu().numpy()
            if embeddings is None:
                embeddings = np.zeros((count, pooled.shape[1]), np.float32)
            embeddings[rows] = pooled
            for name, values in output.logits.items():
                logits[name][rows] = values.float().cpu().numpy()
    model.train(training)
    return Predictions(logits, np.zeros((0, 0), np.float32) if embeddings is None else embeddings)


def predict_texts(model: FeedbackModel, texts: LabelledTexts) -> Predictions:
    """As `predict`, in float32, where the model is."""
    device = next(model.parameters()).device
    return predict(model, Collator(texts, device, int(model.encoder.config.pad_token_id or 0)))


def rounded(figures: Figures) -> Figures:
    """With the decimals that are written down."""
    return {task: {name: round(value, 4) for name, value in row.items()} for task, row in figures.items()}


def probabilities(task: Task, logits: Floats, temperature: float = 1.0) -> Floats:
    """What the task's outputs mean: softmax over classes, or a sigmoid each."""
    scaled = logits.astype(np.float64) / temperature
    if task.kind == "classes":
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return (1 / (1 + np.exp(-scaled))).astype(np.float32)


def evaluate(
    tasks: Sequence[Task],
    logits: Mapping[str, Floats],
    texts: LabelledTexts,
    temperatures: Mapping[str, float] | None = None,
) -> dict[str, dict[str, float]]:
    """Figures by task, over the texts that know it; a task that none knows is absent."""
    figures = {}
    for task in tasks:
        known = texts.known(task.name)
        if known.any():
            given = probabilities(task, logits[task.name][known], (temperatures or {}).get(task.name, 1.0))
            figures[task.name] = task_metrics(task, given, texts.targets[task.name][known])
    return figures


def task_metrics(task: Task, given: Floats, targets: Floats) -> dict[str, float]:
    """The figures of one task: see `class_metrics`, `label_metrics` and `number_metrics`."""
    if task.kind == "classes":
        return class_metrics(given, targets)
    return label_metrics(given, targets) if task.kind == "labels" else number_metrics(given, targets)


def class_metrics(given: Floats, targets: Floats) -> dict[str, float]:
    """Accuracy, macro-F1, log-loss, ECE, AUC of first against last class; recall of what has no class.

    A text without a class (out of scope) has the same target everywhere; it counts only for
    `scope_auc`, which tells by the largest probability.
    """
    outside = np.ptp(targets, axis=1) < 1e-6
    truth = targets[~outside].argmax(axis=1)
    inside = given[~outside]
    result = {"texts": float(len(targets))}
    if len(inside):
        guess = inside.argmax(axis=1)
        result["accuracy"] = float((guess == truth).mean())
        result["macro_f1"] = macro_f1(truth, guess)
        result["log_loss"] = float(-np.log(np.maximum(inside[np.arange(len(truth)), truth], 1e-9)).mean())
        result["ece"] = calibration_error(inside.max(axis=1), guess == truth)
        ends = (truth == 0) | (truth == targets.shape[1] - 1)
        if targets.shape[1] <= 5 and len(np.unique(truth[ends])) == 2:
            result["auc"] = auc(truth[ends] > 0, inside[ends, -1] - inside[ends, 0])
    if outside.any() and not outside.all():
        result["scope_auc"] = auc(~outside, given.max(axis=1))
    return result


def label_metrics(given: Floats, targets: Floats) -> dict[str, float]:
    """Micro and macro F1 at one half, over the known targets, and the mean AUC of the labels."""
    known = np.isfinite(targets)
    truth, guess = np.where(known, targets > 0.5, False), np.where(known, given > 0.5, False)
    hits, wrong = (truth & guess).sum(axis=0), (truth != guess).sum(axis=0)
    used = (hits + wrong) > 0
    f1 = 2 * hits[used] / (2 * hits[used] + wrong[used])
    areas = [
        auc(truth[known[:, i], i], given[known[:, i], i])
        for i in range(truth.shape[1])
        if len(np.unique(truth[known[:, i], i])) == 2
    ]
    return {
        "texts": float(len(targets)),
        "micro_f1": float(2 * hits.sum() / max(1, 2 * hits.sum() + wrong.sum())),
        "macro_f1": float(f1.mean()) if used.any() else 0.0,
        "auc": float(np.mean(areas)) if areas else 0.5,
    }


def number_metrics(given: Floats, targets: Floats) -> dict[str, float]:
    """Squared and absolute error in [0, 1], and Spearman's rank correlation."""
    error = given[:, 0] - targets[:, 0]
    return {
        "texts": float(len(targets)),
        "mse": float(np.square(error).mean()),
        "mae": float(np.abs(error).mean()),
        "spearman": spearman(targets[:, 0], given[:, 0]),
    }


#: The figure by which runs are compared, by kind; larger is better.
MAIN_FIGURE = {"classes": "accuracy", "labels": "micro_f1", "number": "spearman"}


def overall_score(tasks: Sequence[Task], figures: Mapping[str, Mapping[str, float]]) -> float:
    """Mean of the tasks' main figures, weighted as their losses are: what early stopping watches."""
    pairs = [
        (figures[task.name][MAIN_FIGURE[task.kind]], task.loss_weight)
        for task in tasks
        if MAIN_FIGURE[task.kind] in figures.get(task.name, {})
    ]
    total = sum(weight for _, weight in pairs)
    return sum(value * weight for value, weight in pairs) / total if total else 0.0


def fit_temperature(task: Task, logits: Floats, targets: Floats) -> float:
    """The divisor of a softmax task's logits with the least log-loss (Guo et al. 2017), in [0.3, 5]."""
    inside = np.ptp(targets, axis=1) > 1e-6
    if task.kind != "classes" or inside.sum() < 2:
        return 1.0
    truth = targets[inside].argmax(axis=1)

    def loss(temperature: float) -> float:
        given = probabilities(task, logits[inside], temperature)
        return float(-np.log(np.maximum(given[np.arange(len(truth)), truth], 1e-9)).mean())

    return min((float(t) for t in np.geomspace(0.3, 5, 60)), key=loss)


def fit_scope_threshold(given: Floats, targets: Floats) -> float:
    """The least largest-probability of a text that has a class: below it is out of scope.

    With texts out of scope at hand, the threshold with the best mean of in-scope accuracy and
    out-of-scope recall; without, the one that keeps 95% of the rightly classed texts.
    """
    outside = np.ptp(targets, axis=1) < 1e-6
    highest = given.max(axis=1)
    right = (given.argmax(axis=1) == targets.argmax(axis=1)) & ~outside
    if not outside.any():
        return float(np.quantile(highest[right], 0.05)) if right.any() else 0.0
    candidates = np.unique(np.quantile(highest, np.linspace(0, 1, 201)))
    scores = [
        (right & (highest >= t)).sum() / max(1, (~outside).sum())
        + (outside & (highest < t)).sum() / outside.sum()
        for t in candidates
    ]
    return float(candidates[int(np.argmax(scores))])


def scope_metrics(given: Floats, targets: Floats, threshold: float) -> dict[str, float]:
    """In-scope accuracy (a rejected text is wrong) and out-of-scope recall at a threshold."""
    outside = np.ptp(targets, axis=1) < 1e-6
    highest = given.max(axis=1)
    right = (given.argmax(axis=1) == targets.argmax(axis=1)) & (highest >= threshold)
    result = {"threshold": threshold}
    if not outside.all():
        result["in_scope_accuracy"] = float(right[~outside].mean())
    if outside.any():
        result["out_of_scope_recall"] = float((highest[outside] < threshold).mean())
    return result


def macro_f1(truth: Ints, guess: Ints) -> float:
    """Mean F1 of the classes that occur in either."""
    scores = []
    for label in np.union1d(truth, guess):
        hits = int(((truth == label) & (guess == label)).sum())
        scores.append(2 * hits / (int((truth == label).sum()) + int((guess == label).sum())))
    return float(np.mean(scores))


def auc(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Area under the ROC curve, ties at their average rank (Mann-Whitney)."""
    ranks, hits = average_ranks(score), int(positive.sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * (len(score) - hits)))


def average_ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 1, ties at their average."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[index]
    return ranks


def spearman(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Rank correlation; 0 where either does not vary."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(average_ranks(a), average_ranks(b))[0, 1])


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error over equal-width bins (Guo et al. 2017)."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(confidence[index == b].mean()) - float(right[index == b].mean()))
        * float((index == b).mean())
        for b in range(bins)
        if (index == b).any()
    ]
    return float(sum(gaps))
