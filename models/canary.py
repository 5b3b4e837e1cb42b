"""What a canary's scores came to beside those of the model that serves: as rows of `quality`, and in words.

canary.<serving version>.<canary version>.share     distinct texts that both read, of those that were read
                                          texts     that both read
                                          agreement     of them, polarity on the same side of 0; [0, 1]
                                          mean_abs_polarity_delta     [0, 2]
                                          latency_ratio     the canary's seconds a text over the other's
                                          failures     texts that the canary alone could not score
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from models.encoder.serving import CanaryComparison, Served
from models.tables import QualityRow

PREFIX: Final = "canary."


@dataclass(slots=True)
class CanarySum:
    """Comparisons of batches; adds in any order, pairs of versions apart."""

    read: int = 0  # distinct texts of batches, whether the canary was to read them or not
    compared: dict[tuple[str, str], CanaryComparison] = field(default_factory=dict)

    @classmethod
    def of_batch(cls, texts: Iterable[str], served: Served) -> CanarySum:
        """What one batch adds."""
        total = cls(len(set(texts)))
        if served.canary is not None:
            total.compared[served.canary.serving, served.canary.canary] = served.canary
        return total

    def add(self, other: CanarySum) -> None:
        """Takes another sum in."""
        self.read += other.read
        for pair, compared in other.compared.items():
            known = self.compared.get(pair)
            self.compared[pair] = compared if known is None else known.plus(compared)

    def rows(self) -> list[QualityRow]:
        """One row a figure, by versions; none where the canary read nothing."""
        rows = []
        for (serving, canary), compared in sorted(self.compared.items()):
            figures = {"share": compared.texts / self.read, **compared.summary()}
            rows += [
                QualityRow(f"{PREFIX}{serving}.{canary}.{name}", value) for name, value in figures.items()
            ]
        return rows


def in_words(checks: Iterable[tuple[str, float]]) -> list[str]:
    """One line for people of each pair of versions among the (check, value) of `quality`."""
    pairs: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for check, value in checks:
        if check.startswith(PREFIX):
            serving, canary, name = check.removeprefix(PREFIX).split(".", 2)
            pairs[serving, canary][name] = value
    return [_line(*pair, figures) for pair, figures in sorted(pairs.items())]


def _line(serving: str, canary: str, figures: dict[str, float]) -> str:
    line = f"canary {canary} read {figures['texts']:,.0f} texts ({figures['share']:.1%}) besides {serving}"
    if "agreement" in figures:
        line += (
            f": {figures['agreement']:.1%} on the same side of 0, polarity "
            f"{figures['mean_abs_polarity_delta']:.3f} apart on average"
        )
    if "latency_ratio" in figures:
        line += f", {figures['latency_ratio']:.2f} times as long"
    return line + (f", {figures['failures']:,.0f} without a score" if figures["failures"] else "")
