"""`livelist export`: a trained run or a plain checkpoint in, a verified artefact out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.encoder.artefact import Artefact
from models.errors import DeploymentError, InputError
from models.export.trained import MAX_LENGTH, ExportPlan, Quantize, export_model
from models.training.checkpoint import HEADS_CONFIG_NAME, HeadNotes, load_checkpoint
from models.training.job import taught_languages
from models.training.network import Base, FeedbackModel, load_base
from models.training.reading import read_data, usable_text
from models.training.request import TrainingData, read_request, read_training_data
from models.training.run_folder import CONFIG_NAME
from models.training.tasks import LabelledTexts


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export. Without `data` the run's own files are read again."""

    model: str
    output: Path
    quantize: Quantize = "int8"
    data: tuple[str, ...] = ()
    columns: Mapping[str, str] | None = None
    name: str = ""
    languages: tuple[str, ...] = ()
    max_length: int = MAX_LENGTH


def export(request: ExportRequest) -> Artefact:
    """Writes the artefact. Raises DeploymentError when it would not be what torch gives."""
    model, base, notes = load_trained(request.model)
    data = _run_data(Path(request.model))
    texts = _texts(request, data)
    languages = request.languages or notes.languages or taught_languages(texts)
    plan = ExportPlan(
        quantize=request.quantize,
        name=request.name or notes.name,
        max_length=request.max_length,
        languages=languages,
        description=_description(Path(request.model), base),
    )
    validation: LabelledTexts | None = None if data is None else data.validation
    return export_model(model, base, notes, texts, request.output, plan, validation)


def load_trained(name: str) -> tuple[FeedbackModel, Base, HeadNotes]:
    """A trained run; or any encoder, which then gives embeddings only."""
    folder = Path(name)
    if (folder / "checkpoint").is_dir() or (folder / HEADS_CONFIG_NAME).is_file():
        return load_checkpoint(folder)
    base = load_base(name, "eager")
    return FeedbackModel(base.encoder, ()).eval(), base, HeadNotes()


def _run_data(folder: Path) -> TrainingData | None:
    """The run's data, if its files are still there."""
    if not (folder / CONFIG_NAME).is_file() or not (folder / "checkpoint").is_dir():
        return None
    try:
        return read_training_data(read_request(folder))
    except (DeploymentError, InputError):
        return None


def _texts(request: ExportRequest, data: TrainingData | None) -> Sequence[str]:
    if request.data:
        examples, _ = read_data(request.data, request.columns)
        return [text for example in examples if (text := usable_text(example)) is not None]
    if data is None:
        raise InputError(
            f"{request.model}: no data of a run is there to choose scales and to check with; give texts like "
            "those to be scored with --data"
        )
    return [*data.validation.texts, *data.train.texts]


def _description(folder: Path, base: Base) -> dict[str, object]:
    """What people want to know of the run: its base, its data and its metrics."""
    described: dict[str, object] = {"base_model": {"name": base.name}}
    if (folder / CONFIG_NAME).is_file() and (folder / "checkpoint").is_dir():
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        described["base_model"] = {"name": str(config.get("base"))}
        described["training_data"] = [
            {"name": Path(file["path"]).name, "sha256": file["sha256"], "rows": file["rows"]}
            for file in config.get("data", [])
        ]
        described["libraries"] = config.get("libraries", {})
    return described
