"""What a model is asked about a text: its tasks, and the texts with their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.encoder.tokens import TextTokenizer

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Kind = Literal["classes", "labels", "number"]

SENTIMENT: Final = "sentiment"
INTENSITY: Final = "intensity"
TOPICS: Final = "topics"
INTENT: Final = "intent"


@dataclass(frozen=True, slots=True)
class Task:
    """One head.

    `classes` is a softmax over `labels` (cross-entropy), `labels` a sigmoid for each of them (binary
    cross-entropy), `number` one sigmoid in [0, 1] (squared error). `features` name what the head reads:
    "cls" or "mean", of the last layer, or of another as in "mean:-2".
    """

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ("cls",)
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        if (self.kind == "number") == bool(self.labels):
            raise ValueError(f"task {self.name!r}: classes and labels need label names, a number has none")
        if self.kind == "classes" and len(self.labels) < 2:
            raise ValueError(f"task {self.name!r}: expected two classes or more, got {list(self.labels)}")
        for feature in self.features:
            parse_feature(feature)

    @property
    def outputs(self) -> int:
        """Columns of the head."""
        return max(1, len(self.labels))


def parse_feature(feature: str) -> tuple[str, int]:
    """ "mean:-2" -> ("mean", -2): the pooling, and the layer counted from the last.

    Raises ValueError for any other form.
    """
    pooling, _, layer = feature.partition(":")
    try:
        depth = int(layer or "-1")
    except ValueError:
        depth = 0
    if pooling not in ("cls", "mean") or depth > -1:
        raise ValueError(f"expected a feature like cls, mean or mean:-2, got {feature!r}")
    return pooling, depth


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and what is known of each.

    `targets` maps a task to (texts, outputs) with NaN for the unknown; `weights` (texts,) multiply a
    text's losses; `embeddings` (texts, dimension) are what the mean pool is held to, NaN for nothing.
    `sets` names where each text is from, for metrics by set.
    """

    texts: Sequence[str]
    targets: Mapping[str, Floats]
    weights: Floats | None = None
    embeddings: Floats | None = None
    sets: Sequence[str] | None = None
    ids: Sequence[Sequence[int]] = field(default=(), repr=False)  # set by `encode`

    def __post_init__(self) -> None:
        count = len(self.texts)
        given = {**self.targets, "weights": self.weights, "embeddings": self.embeddings, "sets": self.sets}
        for name, rows in given.items():
            if rows is not None and len(rows) != count:
                raise ValueError(f"expected {count} rows of {name}, one a text, got {len(rows)}")

    def __len__(self) -> int:
        return len(self.texts)

    def encode(self, tokenizer: TextTokenizer) -> LabelledTexts:
        """The same with token ids."""
        return replace(self, ids=tokenizer.encode(self.texts))

    def with_embeddings(self, embeddings: Floats | None) -> LabelledTexts:
        """The same with another thing to hold the embedding to."""
        return replace(self, embeddings=embeddings)

    def take(self, rows: Sequence[int] | Ints | NDArray[np.bool_]) -> LabelledTexts:
        """Some of the texts: indices (repeats count) or a mask."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64)
        return LabelledTexts(
            texts=[self.texts[i] for i in index.tolist()],
            targets={name: rows[index] for name, rows in self.targets.items()},
            weights=None if self.weights is None else self.weights[index],
            embeddings=None if self.embeddings is None else self.embeddings[index],
            sets=None if self.sets is None else [self.sets[i] for i in index.tolist()],
            ids=[self.ids[i] for i in index.tolist()] if self.ids else (),
        )

    def known(self, task: str) -> NDArray[np.bool_]:
        """Which texts have at least one target of the task."""
        if task not in self.targets:
            return np.zeros(len(self), np.bool_)
        known: NDArray[np.bool_] = np.asarray(np.isfinite(self.targets[task]).any(axis=1))
        return known


def concatenate(parts: Sequence[LabelledTexts]) -> LabelledTexts:
    """Sets one after the other; a task that a set does not know is unknown for its texts."""
    return LabelledTexts(
        texts=[text for part in parts for text in part.texts],
        targets={
            name: _stack([part.targets.get(name) for part in parts], parts)
            for name in dict.fromkeys(name for part in parts for name in part.targets)
        },
        weights=np.concatenate(
            [np.ones(len(p), np.float32) if p.weights is None else p.weights for p in parts]
        ),
        embeddings=_stack([part.embeddings for part in parts], parts)
        if any(part.embeddings is not None for part in parts)
        else None,
        sets=[name for part in parts for name in (part.sets or [""] * len(part))],
        ids=[ids for part in parts for ids in part.ids] if all(part.ids for part in parts) else (),
    )


def _stack(rows: Sequence[Floats | None], parts: Sequence[LabelledTexts]) -> Floats:
    width = next(each.shape[1] for each in rows if each is not None)
    return np.concatenate(
        [
            np.full((len(part), width), np.nan, np.float32) if each is None else each
            for each, part in zip(rows, parts, strict=True)
        ]
    )


def one_hot(labels: Sequence[int | None], count: int) -> Floats:
    """Rows of probabilities; None is unknown."""
    rows = np.full((len(labels), count), np.nan, np.float32)
    for row, label in enumerate(labels):
        if label is not None:
            rows[row] = np.eye(count, dtype=np.float32)[label]
    return rows
