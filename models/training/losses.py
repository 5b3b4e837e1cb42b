"""What training makes small: one loss a task over the known targets, and the terms for the embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from models.training.batches import Batch
from models.training.network import Output
from models.training.settings import ClassWeights, Settings
from models.training.tasks import LabelledTexts, Task

CONTRAST_TEMPERATURE = 0.05
LARGEST_CLASS_WEIGHT = 10.0


@dataclass(frozen=True, slots=True)
class TaskLoss:
    """The loss of one task; `share` of the training texts know it, and `weights` are its classes'."""

    task: Task
    share: float
    weights: torch.Tensor  # (outputs,)
    smoothing: float

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mean over the texts that know the task, as a batch of average composition would give it.

        Divided by the expected number of such texts, not by this batch's: else the few labelled texts of
        a mixed batch would count as much as a batch of them.
        """
        targets = batch.targets[self.task.name]
        known = torch.isfinite(targets)
        targets = torch.where(known, targets, 0.0)
        logits = logits.float()
        if self.task.kind == "classes":
            loss = self._softmax(logits, targets) * known.all(dim=1)
        elif self.task.kind == "labels":
            each = functional.binary_cross_entropy_with_logits(
                logits, targets, pos_weight=self.weights, reduction="none"
            )
            loss = (each * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
        else:
            loss = ((torch.sigmoid(logits) - targets).square() * known).sum(dim=1)
        return (loss * batch.weights).sum() / (len(loss) * self.share)

    def _softmax(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smooth = targets * (1 - self.smoothing) + self.smoothing / targets.shape[1]
        return -(smooth * self.weights * torch.log_softmax(logits, dim=1)).sum(dim=1)


def task_losses(
    tasks: tuple[Task, ...], texts: LabelledTexts, settings: Settings, device: torch.device
) -> dict[str, TaskLoss]:
    """The losses of the tasks that at least one training text knows."""
    return {
        task.name: TaskLoss(
            task,
            float(texts.known(task.name).mean()),
            torch.from_numpy(class_weights(task, texts, settings.class_weights)).to(device),
            settings.label_smoothing,
        )
        for task in tasks
        if texts.known(task.name).any()
    }


def class_weights(
    task: Task, texts: LabelledTexts, how: ClassWeights
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """One weight an output: 1, or the inverse frequency, or its root; for topics of the positives."""
    if how == "none" or task.kind == "number":
        return np.ones(task.outputs, np.float32)
    rows = texts.targets[task.name][texts.known(task.name)]
    shares = np.nanmean(rows, axis=0).clip(1e-6, 1)
    if task.kind == "classes":
        weights = 1 / (shares * task.outputs)
    else:
        weights = (1 - shares) / shares
    if how == "root":
        weights = np.sqrt(weights)
    return weights.clip(1 / LARGEST_CLASS_WEIGHT, LARGEST_CLASS_WEIGHT).astype(np.float32)


def total_loss(
    output: Output, batch: Batch, losses: Mapping[str, TaskLoss], settings: Settings
) -> dict[str, torch.Tensor]:
    """The weighted terms by name; their sum is what is minimised."""
    terms = {name: loss(output.logits[name], batch) * loss.task.loss_weight for name, loss in losses.items()}
    if batch.embeddings is not None and (settings.hold_embedding or settings.contrast_embedding):
        terms |= embedding_terms(output.pooled, batch.embeddings, settings)
    return terms


def embedding_terms(
    pooled: torch.Tensor, wanted: torch.Tensor, settings: Settings
) -> dict[str, torch.Tensor]:
    """2 (1 - cos) to the wanted embedding, and InfoNCE against the batch's other wanted embeddings."""
    known = torch.isfinite(wanted).all(dim=1)
    if not bool(known.any()):
        return {}
    here = functional.normalize(pooled.float()[known], dim=-1)
    there = functional.normalize(wanted[known], dim=-1)
    terms = {}
    if settings.hold_embedding:
        share = known.float().mean()
        terms["embedding"] = settings.hold_embedding * share * 2 * (1 - (here * there).sum(dim=-1)).mean()
    if settings.contrast_embedding and len(here) > 1:
        similarity = here @ there.T / CONTRAST_TEMPERATURE
        place = torch.arange(len(here), device=here.device)
        terms["contrast"] = settings.contrast_embedding * functional.cross_entropy(similarity, place)
    return terms
