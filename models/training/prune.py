"""Takes the least important heads or layers out of a trained model, and says what that cost.

Pruned layers are gone from the checkpoint. Pruned heads stay in it as zeros, so that any library can read
it; the int8 export leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.errors import DeploymentError, InputError
from models.training import run_folder
from models.training.batches import Collator
from models.training.checkpoint import HeadNotes, save_checkpoint
from models.training.curves import write_curves
from models.training.evaluation import Figures, evaluate, overall_score, predict_texts, rounded
from models.training.job import Report, calibrate, encode_data
from models.training.losses import task_losses, total_loss
from models.training.network import Base, FeedbackModel
from models.training.quality import EmbeddingQuality, compare_embeddings
from models.training.request import TrainingRequest, reopen_run
from models.training.settings import Settings
from models.training.tasks import LabelledTexts
from models.training.trainer import STATE_NAME, Trainer, Watcher

IMPORTANCE_TEXTS = 512
SCORED_TEXTS = 1000


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """Which run, and what to leave of it: a number of layers, or a share of the heads (one of the two)."""

    training: TrainingRequest  # `base` is the run; data and settings measure and recover
    layers: int = 0
    heads: float = 0.0  # share of all heads to take out
    recover_steps: int = 0  # of training after the pruning

    def __post_init__(self) -> None:
        if bool(self.layers) == bool(self.heads):
            raise InputError("give either the number of layers to keep, or the share of heads to take out")
        if not 0 <= self.heads < 1:
            raise InputError(f"heads: expected a share in (0, 1), got {self.heads:g}")
        if self.recover_steps < 0:
            raise InputError(f"recover_steps: expected 0 or more, got {self.recover_steps}")


@dataclass(slots=True)
class Pruned:
    """The figures on the validation texts before, after, and after recovery; the embedding at both ends."""

    removed: list[str]
    before: Figures
    after: Figures
    embedding: EmbeddingQuality
    recovered: Figures = field(default_factory=dict)


def prune(
    request: PruneRequest, folder: Path, watchers: Sequence[Watcher] = (), report: Report = print
) -> Pruned:
    """Writes the smaller model to `folder` as a run. Raises InputError when nothing can be taken out."""
    chosen = {name: value for name, value in asdict(request).items() if name != "training"}
    opened = reopen_run(request.training, folder, "prune", chosen)
    model, base, asked = opened.model, opened.base, opened.request
    held = asked.settings.hold_embedding if request.recover_steps else 0.0
    training = replace(asked, settings=replace(asked.settings, mode="full", hold_embedding=held))
    data = encode_data(training, base, opened.data)
    before, whole = _figures(model, data.validation), predict_texts(model, data.validation).embeddings
    if request.layers:
        removed = prune_layers(model, data.validation, request.layers, report)
    else:
        removed = prune_heads(model, data.train, request.heads)
    after, recovered = _figures(model, data.validation), Figures()
    if request.recover_steps:
        settings = replace(training.settings, max_steps=request.recover_steps)
        trainer = Trainer(
            model, data.train, data.validation, settings, folder, watchers, mask_id=base.mask_id()
        )
        if request.heads:
            _keep_heads_empty(model)
        write_curves(folder, model.tasks, trainer.run().history)
        recovered = _figures(model, data.validation)
    left = predict_texts(model, data.validation).embeddings
    embedding = compare_embeddings(whole, left, data.validation)
    result = Pruned(removed, before, after, embedding, recovered)
    notes = calibrate(model, data.validation, data.train.texts)
    _write(folder, model, base, notes, result)
    return result


def _write(folder: Path, model: FeedbackModel, base: Base, notes: HeadNotes, result: Pruned) -> None:
    save_checkpoint(folder / "checkpoint", model, base, replace(notes, name=folder.name))
    embedding = result.embedding.figures()
    metrics: dict[str, object] = {
        "removed": result.removed, "before": result.before, "after": result.after,
        "recovered": result.recovered, "embedding": embedding,
    }  # fmt: skip
    run_folder.write_card(folder, model.tasks, {**(result.recovered or result.after), "embedding": embedding})
    run_folder.write_json(folder / run_folder.METRICS_NAME, metrics)
    (folder / STATE_NAME).unlink(missing_ok=True)


def _figures(model: FeedbackModel, texts: LabelledTexts) -> Figures:
    used = texts.take(np.arange(min(len(texts), SCORED_TEXTS)))
    return rounded(evaluate(model.tasks, predict_texts(model, used).logits, used))


def encoder_layers(encoder: nn.Module) -> nn.ModuleList:
    """The list of layers of a BERT, RoBERTa or DistilBERT encoder."""
    for path in ("encoder.layer", "transformer.layer"):
        try:
            layers: nn.ModuleList = encoder.get_submodule(path)
        except AttributeError:
            continue
        return layers
    raise DeploymentError(f"no layers are known in a {encoder.config.model_type!r} model")


def keep_layers(encoder: nn.Module, kept: Sequence[int]) -> None:
    """Leaves some of the layers, in their order, in place."""
    layers = encoder_layers(encoder)
    chosen = [layers[i] for i in kept]
    del layers[:]
    layers.extend(chosen)
    name = "n_layers" if encoder.config.model_type == "distilbert" else "num_hidden_layers"
    setattr(encoder.config, name, len(chosen))


def prune_layers(model: FeedbackModel, texts: LabelledTexts, count: int, report: Report) -> list[str]:
    """Takes out one layer after the other: each time the one without which the score falls least."""
    layers = encoder_layers(model.encoder)
    if not 1 <= count < len(layers):
        raise InputError(f"layers: the model has {len(layers)}, expected 1 to {len(layers) - 1}, got {count}")
    numbers, removed = list(range(len(layers))), []
    whole = list(layers)
    while len(numbers) > count:
        scores = {}
        for number in numbers:
            _use_layers(model, whole, [n for n in numbers if n != number])
            scores[number] = overall_score(model.tasks, _figures(model, texts))
        best = max(scores, key=lambda number: (scores[number], number))
        numbers.remove(best)
        removed.append(f"layer {best}")
        report(f"without layer {best}: score {scores[best]:.3f}")
    _use_layers(model, whole, numbers)
    return removed


def _use_layers(model: FeedbackModel, whole: Sequence[nn.Module], numbers: Sequence[int]) -> None:
    layers = encoder_layers(model.encoder)
    del layers[:]
    layers.extend(whole)
    keep_layers(model.encoder, numbers)


def _attention_outputs(encoder: nn.Module) -> list[nn.Linear]:
    """The matrix of each layer that reads the heads' contexts side by side."""
    distil = encoder.config.model_type == "distilbert"
    name = "attention.out_lin" if distil else "attention.output.dense"
    return [layer.get_submodule(name) for layer in encoder_layers(encoder)]


def head_importance(model: FeedbackModel, texts: LabelledTexts) -> NDArray[np.float64]:
    """Shape (layers, heads): mean |context . its gradient|, scaled to norm 1 a layer (Michel et al. 2019)."""
    device = next(model.parameters()).device
    used = texts.take(np.arange(min(len(texts), IMPORTANCE_TEXTS))).with_embeddings(None)
    collator = Collator(used, device, int(model.encoder.config.pad_token_id or 0))
    outputs, heads = _attention_outputs(model.encoder), int(model.encoder.config.num_attention_heads)
    settings = Settings(hold_embedding=0.0)
    losses = task_losses(model.tasks, used, settings, device)
    total = np.zeros((len(outputs), heads))
    model.eval()
    for rows in collator.in_order_of_length(32):
        batch = collator.collate(rows)
        contexts: dict[int, torch.Tensor] = {}
        with ExitStack() as stack:
            for place, linear in enumerate(outputs):
                stack.enter_context(_InputWatch(linear, place, contexts))
            terms = total_loss(model(batch.ids, batch.mask), batch, losses, settings)
            model.zero_grad(set_to_none=True)
            sum(terms.values(), torch.zeros((), device=device)).backward()
        for place, context in contexts.items():
            gradient = context.grad
            if gradient is None:
                raise RuntimeError("the contexts have no gradient")
            products = (context.detach() * gradient).unflatten(-1, (heads, -1)).sum(dim=(1, 3))
            total[place] += products.abs().sum(dim=0).cpu().numpy()
    model.zero_grad(set_to_none=True)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


class _InputWatch:
    """Keeps the input of a matrix, with its gradient, under a number."""

    def __init__(self, linear: nn.Linear, place: int, kept: dict[int, torch.Tensor]) -> None:
        self._linear, self._place, self._kept = linear, place, kept

    def __enter__(self) -> None:
        self._handle = self._linear.register_forward_pre_hook(self._keep)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _keep(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        inputs[0].retain_grad()
        self._kept[self._place] = inputs[0]


def prune_heads(model: FeedbackModel, texts: LabelledTexts, share: float) -> list[str]:
    """Empties the least important share of all heads; every layer keeps one at least."""
    importance = head_importance(model, texts)
    order = [divmod(int(i), importance.shape[1]) for i in np.argsort(importance, axis=None, kind="stable")]
    left = [importance.shape[1]] * len(importance)
    chosen: list[tuple[int, int]] = []
    for layer, head in order:
        if len(chosen) < round(share * importance.size) and left[layer] > 1:
            chosen.append((layer, head))
            left[layer] -= 1
    if not chosen:
        raise InputError(f"heads: {share:g} of {importance.size} heads is less than one")
    outputs = _attention_outputs(model.encoder)
    with torch.no_grad():
        for layer, head in chosen:
            size = outputs[layer].weight.shape[1] // importance.shape[1]
            outputs[layer].weight[:, head * size : (head + 1) * size] = 0
    return [f"layer {layer} head {head}" for layer, head in sorted(chosen)]


def _keep_heads_empty(model: FeedbackModel) -> None:
    """Zeros of the outputs get no gradient, and decay leaves zeros alone, so that they stay."""
    for linear in _attention_outputs(model.encoder):
        linear.weight.register_hook(_masked_by((linear.weight != 0).to(linear.weight.dtype)))


def _masked_by(mask: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda gradient: gradient * mask
