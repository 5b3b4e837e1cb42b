"""How good an embedding is, and how far training moved it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from models.training.tasks import INTENT, SENTIMENT, TOPICS, Floats, Ints, LabelledTexts

NEIGHBOURS = 10
MOST_TEXTS = 3000
#: A k-NN accuracy within this of what it was has not fallen: about one standard error on 1,000 texts.
TOLERANCE = 0.015
#: Where no task tells texts apart, the embedding itself must stay this near.
LEAST_COSINE = 0.9


@dataclass(frozen=True, slots=True)
class EmbeddingQuality:
    """Before and after training, or of the teacher and its student.

    `knn` is None when no task tells texts apart.
    """

    cosine: float  # mean over texts, to the embedding before
    cosine_p1: float
    knn_before: float | None
    knn_after: float | None

    @property
    def held(self) -> bool:
        """Whether neighbours are as much alike as before."""
        if self.knn_before is None or self.knn_after is None:
            return self.cosine >= LEAST_COSINE
        return self.knn_after >= self.knn_before - TOLERANCE

    def figures(self) -> dict[str, object]:
        """As they stand in metrics.json under "embedding"."""
        return {**asdict(self), "held": self.held}

    def fault(self) -> str:
        """Why a run must not pass unnoticed; empty while the embedding is held."""
        if self.held:
            return ""
        if self.knn_before is None or self.knn_after is None:
            return f"the embedding moved: cosine to before {self.cosine}, expected {LEAST_COSINE} or more"
        return (
            f"the embedding is worse: k-NN accuracy {self.knn_before} before, {self.knn_after} after, "
            f"expected a fall of {TOLERANCE} at most"
        )


def compare_embeddings(
    before: Floats, after: Floats, texts: LabelledTexts, directions: Floats | None = None
) -> EmbeddingQuality:
    """Unit embeddings (texts, dimension) of the same texts before and after.

    `directions` (dimension before, dimension after) are what a narrower embedding shall keep of the old.
    """
    seen = before if directions is None else before @ directions
    cosines = (seen * after).sum(axis=1) / np.linalg.norm(seen, axis=1).clip(1e-12)
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
