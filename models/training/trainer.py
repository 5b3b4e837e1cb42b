"""The training loop: repeatable from its seed, and after a kill it goes on to the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from models.errors import DeploymentError
from models.training.augment import WordVectorStep, edit_tokens
from models.training.batches import Batch, Collator
from models.training.device import autocast, default_device, has_bf16
from models.training.evaluation import evaluate, overall_score, predict
from models.training.losses import task_losses, total_loss
from models.training.network import FeedbackModel, Output
from models.training.optimise import make_optimizer, prepare_mode, rate_factor, set_rates
from models.training.settings import Settings
from models.training.tasks import Ints, LabelledTexts

STATE_NAME = "training_state.pt"
ExtraLoss = Callable[[Output, Batch], dict[str, torch.Tensor]]


class Watcher(Protocol):
    """Somebody who wants to see a run."""

    def step(self, step: int, steps: int, losses: dict[str, float], rate: float) -> None:
        """After an optimizer step, counted from 1."""

    def evaluation(self, step: int, figures: dict[str, dict[str, float]], score: float) -> None:
        """After an evaluation on the validation set."""


@dataclass(frozen=True, slots=True)
class Later:
    """A watcher's view of a run that follows another of `steps` steps."""

    watcher: Watcher
    steps: int

    def step(self, step: int, steps: int, losses: dict[str, float], rate: float) -> None:
        """Counted from the first run's beginning."""
        self.watcher.step(self.steps + step, self.steps + steps, losses, rate)

    def evaluation(self, step: int, figures: dict[str, dict[str, float]], score: float) -> None:
        """Counted from the first run's beginning."""
        self.watcher.evaluation(self.steps + step, figures, score)


@dataclass(slots=True)
class Progress:
    """Where a run stands; saved with the weights."""

    step: int = 0
    best_score: float = -math.inf
    best_step: int = 0
    bad_evaluations: int = 0
    stopped: bool = False
    history: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a run came to."""

    steps: int
    best_step: int
    best_score: float  # -inf without a validation set
    history: list[dict[str, object]]


class Trainer:
    """Trains a model in place. `run` may be called in a folder where a killed run left its state.

    `extra_loss` adds terms (a teacher's hidden states, say); `watchers` see steps and evaluations;
    `collator` makes the batches of another kind of set.
    """

    def __init__(
        self,
        model: FeedbackModel,
        train: LabelledTexts,
        validation: LabelledTexts | None,
        settings: Settings,
        folder: Path,
        watchers: Sequence[Watcher] = (),
        extra_loss: ExtraLoss | None = None,
        collator: type[Collator] = Collator,
        mask_id: int | None = None,
    ) -> None:
        self.device = default_device()
        self.settings = replace(settings, bf16=settings.bf16 and has_bf16(self.device))
        prepare_mode(model, settings)
        self.model = model.to(self.device)
        pad = int(model.encoder.config.pad_token_id or 0)
        self.train = collator(train, self.device, pad)
        self.validation = None if validation is None else collator(validation, self.device, pad)
        self.folder, self.watchers, self.extra_loss, self.mask_id = folder, watchers, extra_loss, mask_id
        self.losses = task_losses(model.tasks, train, settings, self.device)
        self.optimizer = make_optimizer(model, settings)
        self.progress = Progress()
        self._best: dict[str, torch.Tensor] = {}
        self._adversary = (
            WordVectorStep(model.encoder.get_input_embeddings(), settings.adversarial)
            if settings.adversarial
            else None
        )

    @property
    def steps_an_epoch(self) -> int:
        """Optimizer steps that see every text once."""
        batches = math.ceil(len(self.train.texts) / self.settings.batch_size)
        return math.ceil(batches / self.settings.accumulate)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.settings.max_steps or max(1, round(self.settings.epochs * self.steps_an_epoch))

    def run(self) -> TrainingResult:
        """Trains to the end, or to the early stop; the model then has its best weights."""
        self._resume()
        self.model.train()
        batches: list[Ints] = []
        epoch = -1
        while self.progress.step < self.steps and not self.progress.stopped:
            if self.progress.step // self.steps_an_epoch != epoch:
                epoch = self.progress.step // self.steps_an_epoch
                batches = self.train.epoch(self.settings.batch_size, self.settings.seed, epoch)
            first = self.progress.step % self.steps_an_epoch * self.settings.accumulate
            self._step(batches[first : first + self.settings.accumulate])
            self._after_step()
        if self._best and self.settings.keep_best:
            self.model.load_state_dict(self._best, strict=False)
        self.model.eval()
        return TrainingResult(
            self.progress.step, self.progress.best_step, self.progress.best_score, self.progress.history
        )

    def forget_state(self) -> None:
        """Removes what a killed run would resume from; call when the results are safe."""
        (self.folder / STATE_NAME).unlink(missing_ok=True)

    def _step(self, batches: Sequence[Ints]) -> None:
        settings, step = self.settings, self.progress.step
        # Dropout depends on the seed and the step alone, so that a resumed run repeats it.
        torch.manual_seed((settings.seed << 32) + step)
        random = np.random.default_rng((settings.seed, 1, step))
        rate = set_rates(self.optimizer, rate_factor(step, self.steps, settings))
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for rows in batches:
            batch = self.train.collate(rows, self._edited(rows, random))
            for name, value in self._backward(batch, len(batches)).items():
                sums[name] = sums.get(name, 0.0) + value / len(batches)
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, settings.clip or math.inf)
        if not math.isfinite(sum(sums.values())) or not bool(torch.isfinite(norm)):
            raise DeploymentError(
                f"the loss is no longer a number at step {step + 1}: {sums}; lower the rate, or turn bf16 off"
            )
        self.optimizer.step()
        self.progress.step += 1
        self.progress.history.append({"step": step + 1, "rate": rate, **sums})
        for watcher in self.watchers:
            watcher.step(step + 1, self.steps, sums, rate)

    def _edited(self, rows: Ints, random: np.random.Generator) -> list[list[int]] | None:
        if not self.settings.edits:
            return None
        ids = self.train.texts.ids
        return [edit_tokens(ids[i], self.settings.edits, random, self.mask_id) for i in rows.tolist()]

    def _backward(self, batch: Batch, parts: int) -> dict[str, float]:
        if self._adversary is None:
            return self._pass(batch, parts)
        with self._adversary.watch():
            values = self._pass(batch, parts)
        with self._adversary.apply():
            self._pass(batch, parts)
        return values

    def _pass(self, batch: Batch, parts: int) -> dict[str, float]:
        """Forward and backward over one batch; the terms of its loss."""
        with autocast(self.device, self.settings.bf16):
            output = self.model(batch.ids, batch.mask, batch.extra)
        terms = total_loss(output, batch, self.losses, self.settings)
        if self.extra_loss is not None:
            terms |= self.extra_loss(output, batch)
        total = sum(terms.values(), torch.zeros((), device=self.device))
        if total.requires_grad:
            (total / parts).backward()
        return {name: float(term.detach()) for name, term in terms.items()}

    def _after_step(self) -> None:
        settings, step = self.settings, self.progress.step
        every = settings.evaluate_every or self.steps_an_epoch
        if self.validation is not None and (step % every == 0 or step == self.steps):
            self._evaluate()
        if settings.save_every and (step % settings.save_every == 0) and step < self.steps:
            self._save()

    def _evaluate(self) -> None:
        if self.validation is None:
            return
        given = predict(self.model, self.validation, self.settings.bf16)
        figures = evaluate(self.model.tasks, given.logits, self.validation.texts)
        score, progress = overall_score(self.model.tasks, figures), self.progress
        progress.history.append({"step": progress.step, "score": score, "validation": figures})
        if score > progress.best_score:
            progress.best_score, progress.best_step, progress.bad_evaluations = score, progress.step, 0
            if self.settings.keep_best:
                self._best = self._trained()
        else:
            progress.bad_evaluations += 1
        progress.stopped = bool(self.settings.patience) and progress.bad_evaluations >= self.settings.patience
        for watcher in self.watchers:
            watcher.evaluation(progress.step, figures, score)

    def _trained(self) -> dict[str, torch.Tensor]:
        """A copy of every weight that trains."""
        return {
            name: parameter.detach().clone()
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "settings": self.settings,
            "texts": len(self.train.texts),
            "progress": self.progress,
            "weights": self._trained(),
            "optimizer": self.optimizer.state_dict(),
            "best": self._best,
        }
        scratch = self.folder / f"{STATE_NAME}.part"
        torch.save(state, scratch)
        scratch.replace(self.folder / STATE_NAME)

    def _resume(self) -> None:
        path = self.folder / STATE_NAME
        if not path.is_file():
            return
        with torch.serialization.safe_globals([Settings, Progress]):
            state = torch.load(path, map_location=self.device, weights_only=True)
        if state["settings"] != self.settings or state["texts"] != len(self.train.texts):
            raise DeploymentError(
                f"{path} is of a run with other settings or texts; give the same ones, or another folder, "
                "or delete it"
            )
        self.model.load_state_dict(state["weights"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress, self._best = state["progress"], state["best"]
