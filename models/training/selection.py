"""What to do with texts that nobody labelled: believe the sure ones, ask about the doubtful ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.training.evaluation import Predictions, probabilities
from models.training.quality import far_apart
from models.training.tasks import Floats, LabelledTexts, Task, one_hot


def pseudo_label(
    tasks: Sequence[Task],
    texts: Sequence[str],
    given: Predictions,
    temperatures: Mapping[str, float],
    gate: float,
) -> LabelledTexts:
    """The texts of which at least one softmax task is surer than `gate`, with hard labels for these tasks.

    Other tasks stay unknown: a regression or a topic tells no confidence that could be gated alike.
    """
    targets: dict[str, Floats] = {}
    sure = np.zeros(len(texts), np.bool_)
    for task in tasks:
        if task.kind == "classes":
            rows = probabilities(task, given.logits[task.name], temperatures.get(task.name, 1.0))
            passed = rows.max(axis=1) >= gate
            best = rows.argmax(axis=1)
            chosen = [int(label) if ok else None for label, ok in zip(best, passed, strict=True)]
            targets[task.name] = one_hot(chosen, task.outputs)
            sure |= passed
    return LabelledTexts(list(texts), targets).take(sure)


def uncertainty(
    tasks: Sequence[Task], given: Predictions, temperatures: Mapping[str, float]
) -> NDArray[np.float64]:
    """Mean entropy of the tasks' outputs in [0, 1] by text; 1 is no idea at all. Regressions do not count."""
    total, count = np.zeros(len(given.embeddings)), 0
    for task in tasks:
        if task.kind == "number":
            continue
        rows = probabilities(task, given.logits[task.name], temperatures.get(task.name, 1.0)).astype(
            np.float64
        )
        rows = rows.clip(1e-9, 1 - 1e-9)
        if task.kind == "classes":
            entropy = -(rows * np.log(rows)).sum(axis=1) / np.log(task.outputs)
        else:
            entropy = -(rows * np.log2(rows) + (1 - rows) * np.log2(1 - rows)).mean(axis=1)
        total, count = total + entropy, count + 1
    return total / max(1, count)


def most_worth_labelling(
    tasks: Sequence[Task], given: Predictions, temperatures: Mapping[str, float], count: int
) -> list[tuple[int, float]]:
    """The rows that the model doubts most with their uncertainty; near-copies only to fill up."""
    doubts = uncertainty(tasks, given, temperatures)
    order = np.argsort(-doubts, kind="stable").tolist()
    apart = set(far_apart(given.embeddings, order, count))
    others = [place for place in order if place not in apart][: count - len(apart)]
    chosen = sorted(apart | set(others), key=order.index)
    return [(place, round(float(doubts[place]), 4)) for place in chosen]
