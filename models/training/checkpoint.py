"""A trained model on disk: the encoder as a Hugging Face folder, and the heads beside it.

checkpoint/encoder/{config.json, model.safetensors, tokenizer.json}
checkpoint/heads.safetensors
checkpoint/heads.json        tasks, temperatures, what the export needs to know
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save_file

from models.errors import DeploymentError
from models.training.network import Base, FeedbackModel, load_base
from models.training.optimise import merge_lora
from models.training.tasks import Task
from models.training.vocabulary import join_embeddings

HEADS_NAME, HEADS_CONFIG_NAME = "heads.safetensors", "heads.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class HeadNotes:
    """What goes with the heads: softmax temperatures, the intent threshold, the rating scale, languages."""

    temperatures: Mapping[str, float] = field(default_factory=dict)
    intent_threshold: float = 0.0
    languages: tuple[str, ...] = ()
    name: str = ""


def save_checkpoint(folder: Path, model: FeedbackModel, base: Base, notes: HeadNotes | None = None) -> None:
    """Writes the checkpoint beside its place, then renames it. LoRA is merged and added rows are joined."""
    model.encoder = merge_lora(model.encoder)
    join_embeddings(model.encoder)
    scratch = folder.with_name(folder.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "encoder").mkdir(parents=True)
    model.encoder.save_pretrained(scratch / "encoder")
    (scratch / "encoder" / "tokenizer.json").write_text(base.tokenizer_json, encoding="utf-8")
    save_file({name: t.contiguous() for name, t in model.heads.state_dict().items()}, scratch / HEADS_NAME)
    description = {
        "format": FORMAT,
        "base": base.name,
        "tasks": [asdict(task) for task in model.tasks],
        "notes": asdict(notes or HeadNotes()),
    }
    (scratch / HEADS_CONFIG_NAME).write_text(
        json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    shutil.rmtree(folder, ignore_errors=True)
    scratch.replace(folder)


def load_checkpoint(folder: Path) -> tuple[FeedbackModel, Base, HeadNotes]:
    """A model as `save_checkpoint` left it; `folder` may be a run's or the checkpoint's own.

    Raises DeploymentError when files are missing, or the heads do not match their description.
    """
    inner = folder / "checkpoint"
    folder = inner if inner.is_dir() else folder
    try:
        described = json.loads((folder / HEADS_CONFIG_NAME).read_text(encoding="utf-8"))
        weights = load_file(folder / HEADS_NAME)
        tasks = [
            Task(**{**task, "labels": tuple(task["labels"]), "features": tuple(task["features"])})
            for task in described["tasks"]
        ]
        notes = HeadNotes(**{**described["notes"], "languages": tuple(described["notes"]["languages"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeploymentError(
            f"{folder} is not a trained checkpoint: {error}; give a run's folder, or train first"
        ) from None
    base = load_base(folder / "encoder")
    model = FeedbackModel(base.encoder, tasks)
    expected = {name: tuple(tensor.shape) for name, tensor in model.heads.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected != found:
        wrong = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )[0]
        raise DeploymentError(
            f"{folder / HEADS_CONFIG_NAME} does not match the heads: {wrong} should have shape "
            f"{expected.get(wrong)}, got {found.get(wrong)}"
        )
    model.heads.load_state_dict(weights)
    return model.eval(), base, notes
