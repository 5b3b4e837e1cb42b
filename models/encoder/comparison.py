"""How two artefacts differ on the same texts: what they say, how fast and how large they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.encoder.scorer import ScoringResult, TextScorer
from models.records import ScoredText

ROUNDS: Final = 3  # alternating, so that a busy machine spoils both


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """Two models on the texts that both could score; figures of the second against the first."""

    texts: int
    failures: tuple[int, int]
    sign_agreement: float  # share with polarity on the same side of 0
    label_agreement: float  # share with the same likeliest of negative, neutral, positive
    polarity_correlation: float  # Pearson; nan where one of them is constant
    mean_abs_polarity_delta: float
    cosine: tuple[float, float] | None  # of the embeddings: mean, first percentile; None of other widths
    speed_ratio: float  # texts a CPU second, second to first
    size_ratio: float  # bytes


def compare_models(first: TextScorer, second: TextScorer, texts: Sequence[str]) -> ModelComparison:
    """Scores the texts with both, in alternating rounds. Raises ValueError when none could be scored."""
    scorers = (first, second)
    seconds = [float("inf"), float("inf")]
    results: list[list[ScoringResult]] = [[], []]
    for _ in range(ROUNDS):
        for place, scorer in enumerate(scorers):
            scorer.forget()
            began = time.process_time()
            results[place] = scorer.score(texts)
            seconds[place] = min(seconds[place], time.process_time() - began)
    pairs = [(a, b) for a, b in zip(*results, strict=True) if _scored(a) and _scored(b)]
    if not pairs:
        raise ValueError("none of the texts could be scored by both models")
    a, b = (_Read([pair[place] for pair in pairs]) for place in (0, 1))
    return ModelComparison(
        texts=len(pairs),
        failures=(sum(not _scored(r) for r in results[0]), sum(not _scored(r) for r in results[1])),
        sign_agreement=float((np.sign(a.polarity) == np.sign(b.polarity)).mean()),
        label_agreement=float((a.labels == b.labels).mean()),
        polarity_correlation=_correlation(a.polarity, b.polarity),
        mean_abs_polarity_delta=float(np.abs(a.polarity - b.polarity).mean()),
        cosine=_cosine(a.embeddings, b.embeddings),
        speed_ratio=seconds[0] / seconds[1],
        size_ratio=second.artefact.size / first.artefact.size,
    )


def _scored(result: ScoringResult) -> bool:
    return isinstance(result, ScoredText)


class _Read:
    """One model's results as columns."""

    def __init__(self, results: Sequence[ScoringResult]) -> None:
        scored = [result for result in results if isinstance(result, ScoredText)]
        self.polarity = np.array([result.score.polarity for result in scored])
        self.labels = np.array([result.score.sentiment for result in scored]).argmax(axis=1)
        self.embeddings = np.stack([np.frombuffer(r.embedding, "<f2") for r in scored]).astype(np.float32)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _cosine(a: np.ndarray, b: np.ndarray) -> tuple[float, float] | None:
    if a.shape != b.shape:
        return None
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(axis=1) / lengths
    return float(cosines.mean()), float(np.quantile(cosines, 0.01))
