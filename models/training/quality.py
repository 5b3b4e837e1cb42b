"""How good an embedding is, and how far training moved it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.training.tasks import INTENT, SENTIMENT, TOPICS, Floats, Ints, LabelledTexts

NEIGHBOURS = 10
MOST_TEXTS = 3000
#: A k-NN accuracy within this of what it was has not fallen: about one standard error on 1,000 texts.
TOLERANCE = 0.015


@dataclass(frozen=True, slots=True)
class EmbeddingQuality:
    """Before and after training. `knn` is None when no task tells texts apart."""

    cosine: float  # mean over texts, to the embedding before
    cosine_p1: float
    knn_before: float | None
    knn_after: float | None

    @property
    def held(self) -> bool:
        """Whether neighbours are as much alike as before."""
        if self.knn_before is None or self.knn_after is None:
            return self.cosine >= 0.9
        return self.knn_after >= self.knn_before - TOLERANCE


def compare_embeddings(before: Floats, after: Floats, texts: LabelledTexts) -> EmbeddingQuality:
    """Unit embeddings (texts, dimension) of the same texts before and after."""
    cosines = (before * after).sum(axis=1)
    groups = neighbour_labels(texts)
    return EmbeddingQuality(
        cosine=round(float(cosines.mean()), 4),
        cosine_p1=round(float(np.quantile(cosines, 0.01)), 4),
        knn_before=None if groups is None else knn_accuracy(before, groups),
        knn_after=None if groups is None else knn_accuracy(after, groups),
    )


def neighbour_labels(texts: LabelledTexts) -> Ints | None:
    """What a text is about, for k-NN: its intent, else its first topic, else its sentiment; -1 unknown."""
    for name in (INTENT, TOPICS, SENTIMENT):
        if name in texts.targets and texts.targets[name].shape[1] > 1:
            rows = texts.targets[name]
            told = np.isfinite(rows).all(axis=1) & (np.ptp(np.nan_to_num(rows), axis=1) > 0)
            labels = np.where(told, np.nan_to_num(rows).argmax(axis=1), -1)
            if len(np.unique(labels[labels >= 0])) > 1:
                return labels
    return None


def knn_accuracy(embeddings: Floats, labels: Ints, neighbours: int = NEIGHBOURS) -> float | None:
    """Leave-one-out: how often most of a text's nearest by cosine have its label. None below 20 texts."""
    rows = np.flatnonzero(labels >= 0)[:MOST_TEXTS]
    if len(rows) < 2 * NEIGHBOURS:
        return None
    vectors, truth = embeddings[rows], labels[rows]
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, neighbours, axis=1)[:, :neighbours]
    votes = np.stack([(truth[nearest] == label).sum(axis=1) for label in range(int(truth.max()) + 1)], axis=1)
    return round(float((votes.argmax(axis=1) == truth).mean()), 4)


def far_apart(embeddings: Floats, order: Sequence[int], count: int, most: float = 0.95) -> list[int]:
    """The first `count` of `order` that are not near-copies (cosine above `most`) of one taken before."""
    taken: list[int] = []
    for place in order:
        if len(taken) == count:
            break
        if not taken or float((embeddings[taken] @ embeddings[place]).max()) <= most:
            taken.append(place)
    return taken
