"""A smaller model that learns from a trained one: fewer layers, a narrower stream, or both.

The student's loss is that of the labels, plus the teacher's softened outputs, plus the distance to the
teacher's hidden states. A narrower student sees the teacher's states through the directions in which they
vary most, and starts from the teacher's matrices seen through the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from models.errors import InputError
from models.training import run_folder
from models.training.batches import Batch, Collator
from models.training.checkpoint import load_checkpoint, save_checkpoint
from models.training.curves import write_curves
from models.training.device import default_device
from models.training.evaluation import Figures, evaluate, predict_texts, rounded
from models.training.job import calibrate, encode_data
from models.training.losses import embedding_terms
from models.training.network import FeedbackModel, Output
from models.training.prune import encoder_layers, keep_layers
from models.training.quality import EmbeddingQuality, compare_embeddings
from models.training.request import TrainingRequest, reopen_run
from models.training.tasks import LabelledTexts, Task
from models.training.trainer import Trainer, Watcher

DIRECTION_TEXTS = 256


@dataclass(frozen=True, slots=True)
class DistilRequest:
    """`training.base` is the teacher's run; its settings hold the student's embedding to the teacher's.

    Zeros keep the teacher's size.
    """

    training: TrainingRequest
    layers: int = 0
    hidden: int = 0
    temperature: float = 2.0
    teacher_weight: float = 1.0  # of the softened outputs
    states_weight: float = 1.0  # of the hidden states' distance

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature: expected a number above 0, got {self.temperature:g}")
        for name in ("teacher_weight", "states_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: expected a number of at least 0, got {getattr(self, name):g}")
        if not self.layers and not self.hidden:
            raise InputError("give the student's size: --layers, --hidden, or both")


@dataclass(frozen=True, slots=True)
class Distilled:
    """The figures on the validation texts, and the parameters of both encoders."""

    teacher: Figures
    student: Figures
    embedding: EmbeddingQuality  # before: the teacher's, seen through the student's directions
    parameters: dict[str, int]


def distil(request: DistilRequest, folder: Path, watchers: Sequence[Watcher] = ()) -> Distilled:
    """Trains the student in `folder`, a run like any other. Raises InputError for a size that cannot be."""
    chosen = {name: value for name, value in asdict(request).items() if name != "training"}
    opened = reopen_run(request.training, folder, "distil", chosen)
    base, asked = opened.base, opened.request
    # What the embedding is held to comes with each batch from the teacher, seen in the student's width.
    plain = replace(asked.settings, hold_embedding=0.0, contrast_embedding=0.0)
    data = encode_data(replace(asked, settings=plain), base, opened.data)
    teacher = opened.model.to(default_device()).eval()
    directions = find_directions(teacher, data.train, request.hidden)
    student = make_student(request.training.base, directions, request.layers)
    loss = TeacherLoss(teacher, student.tasks, directions, request)
    trainer = Trainer(
        student, data.train, data.validation, asked.settings, folder,
        watchers, extra_loss=loss, mask_id=base.mask_id(),
    )  # fmt: skip
    result = trainer.run()
    figures = _compare(teacher, student, data.validation, directions)
    notes = replace(calibrate(student, data.validation, data.train.texts), name=folder.name)
    save_checkpoint(folder / "checkpoint", student, replace(base, encoder=student.encoder), notes)
    write_curves(folder, student.tasks, result.history)
    _write_figures(folder, student, figures)
    trainer.forget_state()
    return figures


def _write_figures(folder: Path, student: FeedbackModel, figures: Distilled) -> None:
    metrics: dict[str, object] = {
        "student": figures.student, "teacher": figures.teacher,
        "embedding": figures.embedding.figures(), "parameters": figures.parameters,
    }  # fmt: skip
    run_folder.write_card(folder, student.tasks, metrics)
    run_folder.write_json(folder / run_folder.METRICS_NAME, metrics)


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module holds."""
    return sum(parameter.numel() for parameter in module.parameters())


def _compare(
    teacher: FeedbackModel, student: FeedbackModel, texts: LabelledTexts, directions: torch.Tensor | None
) -> Distilled:
    theirs, ours = (predict_texts(model, texts) for model in (teacher, student))
    seen = None if directions is None else directions.cpu().numpy()
    return Distilled(
        rounded(evaluate(teacher.tasks, theirs.logits, texts)),
        rounded(evaluate(student.tasks, ours.logits, texts)),
        compare_embeddings(theirs.embeddings, ours.embeddings, texts, seen),
        {"teacher": count_parameters(teacher.encoder), "student": count_parameters(student.encoder)},
    )


def find_directions(teacher: FeedbackModel, texts: LabelledTexts, hidden: int) -> torch.Tensor | None:
    """(teacher's width, hidden) with orthonormal columns: the principal directions of its states.

    None for a student of the teacher's width.
    """
    config = teacher.encoder.config
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    if hidden in (0, width):
        return None
    if not 0 < hidden < width or hidden % heads:
        raise InputError(
            f"hidden: the teacher has {width} in {heads} heads; expected less, and a multiple of {heads}, "
            f"got {hidden}"
        )
    device = next(teacher.parameters()).device
    some = texts.take(list(range(min(len(texts), DIRECTION_TEXTS))))
    collator = Collator(some, device, int(config.pad_token_id or 0))
    rows = []
    with torch.inference_mode():
        for place in collator.in_order_of_length(32):
            batch = collator.collate(place)
            states = teacher(batch.ids, batch.mask).states
            rows += [state[batch.mask.bool()] for state in states]
    joined = torch.cat(rows).double()
    _, vectors = torch.linalg.eigh(joined.T @ joined)
    return vectors[:, -hidden:].flip(1).float().contiguous()


def make_student(run: str, directions: torch.Tensor | None, layers: int) -> FeedbackModel:
    """The teacher again with some of its layers, seen through the directions."""
    student, _, _ = load_checkpoint(Path(run))
    count = len(encoder_layers(student.encoder))
    if layers:
        if not 1 <= layers <= count:
            raise InputError(f"layers: the teacher has {count}, expected 1 to {count}, got {layers}")
        keep_layers(student.encoder, evenly(count, layers))
    return student if directions is None else _narrow(student, directions.cpu())


def evenly(count: int, chosen: int) -> list[int]:
    """Numbers of layers at even distances, the last among them."""
    return [round((i + 1) * count / chosen) - 1 for i in range(chosen)]


def _narrow(model: FeedbackModel, directions: torch.Tensor) -> FeedbackModel:
    """A model whose stream is the wide one's, projected; inner widths shrink in proportion."""
    import copy

    from transformers import AutoModel

    wide = model.encoder
    config = copy.deepcopy(wide.config)
    width, hidden = directions.shape
    distil = config.model_type == "distilbert"
    inner_name = "hidden_dim" if distil else "intermediate_size"
    inner = int(getattr(config, inner_name)) * hidden // width
    setattr(config, "dim" if distil else "hidden_size", hidden)
    setattr(config, inner_name, inner)
    without_pooler = {} if distil else {"add_pooling_layer": False}
    encoder = AutoModel.from_config(config, attn_implementation="eager", **without_pooler)
    with torch.no_grad():
        given = dict(wide.named_parameters())
        for name, parameter in encoder.named_parameters():
            parameter.copy_(_projected(given[name], parameter, directions, _is_gain(name)))
    narrow = FeedbackModel(encoder, model.tasks, model.dropout.p)
    with torch.no_grad():
        for task in model.tasks:
            parts = model.heads[task.name].weight.split(width, dim=1)
            narrow.heads[task.name].weight.copy_(torch.cat([part @ directions for part in parts], dim=1))
            narrow.heads[task.name].bias.copy_(model.heads[task.name].bias)
    return narrow


def _is_gain(name: str) -> bool:
    return "norm" in name.lower() and name.endswith("weight")


def _projected(
    wide: torch.Tensor, narrow: torch.Tensor, directions: torch.Tensor, is_gain: bool
) -> torch.Tensor:
    """A matrix or vector of the wide model in the narrow one's shape.

    Projected where it meets the stream, cut where it meets an inner width; a norm's gains become 1.
    """
    value = wide.detach()
    width, hidden = directions.shape
    if value.ndim == 1:
        if narrow.shape[0] == hidden and value.shape[0] == width:
            return torch.ones(hidden) if is_gain else value @ directions
        return value[: narrow.shape[0]]
    if value.shape[1] == width:
        value = value @ directions
    if value.shape[0] == width and narrow.shape[0] == hidden:
        value = directions.T @ value
    return value[: narrow.shape[0], : narrow.shape[1]]


class TeacherLoss:
    """What the student owes its teacher on a batch: an `ExtraLoss` of the trainer."""

    def __init__(
        self,
        teacher: FeedbackModel,
        tasks: Sequence[Task],
        directions: torch.Tensor | None,
        request: DistilRequest,
    ) -> None:
        self._teacher, self._tasks, self._request = teacher, tuple(tasks), request
        self._directions = directions

    def __call__(self, output: Output, batch: Batch) -> dict[str, torch.Tensor]:
        """Softened outputs by task, hidden states of evenly chosen layers, and the embedding."""
        with torch.inference_mode():
            wanted = self._teacher(batch.ids, batch.mask)
        soft = sum(
            (
                self._soft(task, output.logits[task.name].float(), wanted.logits[task.name].clone())
                for task in self._tasks
            ),
            torch.zeros((), device=batch.ids.device),
        )
        states = self._states(output, wanted, batch.mask)
        return {
            "teacher": self._request.teacher_weight * soft,
            "states": self._request.states_weight * states,
            **embedding_terms(output.pooled, self._seen(wanted.pooled), self._request.training.settings),
        }

    def _soft(self, task: Task, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Cross-entropy to the teacher at a temperature, scaled by its square (Hinton et al. 2015)."""
        heat = self._request.temperature
        if task.kind == "classes":
            target = (teacher / heat).softmax(dim=1)
            given = (student / heat).log_softmax(dim=1)
            return heat**2 * functional.kl_div(given, target, reduction="batchmean")
        return (student.sigmoid() - teacher.sigmoid()).square().mean()

    def _states(self, output: Output, wanted: Output, mask: torch.Tensor) -> torch.Tensor:
        ours, theirs = len(output.states) - 1, len(wanted.states) - 1
        pairs = [(0, 0), *((i + 1, layer + 1) for i, layer in enumerate(evenly(theirs, ours)))]
        weight = mask.unsqueeze(-1).float()
        losses = [
            ((output.states[a].float() - self._seen(wanted.states[b])).square() * weight).sum()
            / (weight.sum() * output.states[a].shape[-1])
            for a, b in pairs
        ]
        return torch.stack(losses).mean()

    def _seen(self, states: torch.Tensor) -> torch.Tensor:
        states = states.float().clone()
        return states if self._directions is None else states @ self._directions
