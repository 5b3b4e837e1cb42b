"""Batches of texts of about one length; their order is a function of the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.training.tasks import Floats, Ints, LabelledTexts

#: Texts are shuffled, then sorted by length within this many batches: little padding, much chance.
BATCHES_A_WINDOW = 50


@dataclass(slots=True)
class Batch:
    """Tensors of some texts; targets are NaN where unknown."""

    rows: Ints  # of the set the batch is from
    ids: torch.Tensor  # (texts, tokens), padded
    mask: torch.Tensor  # (texts, tokens)
    targets: dict[str, torch.Tensor]
    weights: torch.Tensor  # (texts,)
    embeddings: torch.Tensor | None
    extra: dict[str, torch.Tensor]  # what a model's `extra_logits` reads


class Collator:
    """Makes the batches of one set. A subclass may fill `Batch.extra` in `collate`."""

    def __init__(self, texts: LabelledTexts, device: torch.device, pad: int = 0) -> None:
        if not texts.ids:
            raise ValueError("the texts have no token ids: call encode first")
        self.texts, self.device, self.pad = texts, device, pad
        self._lengths = np.array([len(ids) for ids in texts.ids])

    def epoch(self, batch_size: int, seed: int, epoch: int) -> list[Ints]:
        """The rows of each batch of one epoch; the last batch may be small."""
        random = np.random.default_rng((seed, epoch))
        order = random.permutation(len(self.texts))
        window = batch_size * BATCHES_A_WINDOW
        batches = []
        for start in range(0, len(order), window):
            rows = order[start : start + window]
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
            batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def in_order_of_length(self, batch_size: int) -> list[Ints]:
        """Every text once, for evaluation."""
        order = np.argsort(self._lengths, kind="stable")
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def collate(
        self,
        rows: Ints,
        ids: Sequence[Sequence[int]] | None = None,
    ) -> Batch:
        """The tensors of some rows; `ids` stand in for the texts' own, as augmentation gives them."""
        texts = self.texts
        padded, mask = pad_ids(ids or [texts.ids[i] for i in rows.tolist()], self.device, self.pad)
        weights = np.ones(len(rows), np.float32) if texts.weights is None else texts.weights[rows]
        return Batch(
            rows=rows,
            ids=padded,
            mask=mask,
            targets={name: self._tensor(values[rows]) for name, values in texts.targets.items()},
            weights=self._tensor(weights),
            embeddings=None if texts.embeddings is None else self._tensor(texts.embeddings[rows]),
            extra={},
        )

    def _tensor(self, values: Floats) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(self.device)


def pad_ids(
    ids: Sequence[Sequence[int]], device: torch.device, pad: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids padded at the end to the longest, and the mask of what is not padding: both (texts, tokens)."""
    longest = max(map(len, ids))
    padded = np.full((len(ids), longest), pad, np.int64)
    mask = np.zeros((len(ids), longest), np.int64)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return torch.from_numpy(padded).to(device), torch.from_numpy(mask).to(device)
