"""What a training run is asked, and what its files hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import DeploymentError, InputError, OutputError
from models.training import run_folder
from models.training.checkpoint import load_checkpoint
from models.training.labels import Labelled, LabelRules, in_share, label_examples
from models.training.network import Base, FeedbackModel
from models.training.reading import DataFile, file_hash, find_files, read_data
from models.training.settings import Settings
from models.training.tasks import INTENT, SENTIMENT, TOPICS, LabelledTexts, Task

MOST_VALIDATION = 5000  # texts
LEAST_VALIDATION = 4


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """Everything that decides what a run comes to; it stands in the run's config.json."""

    base: str
    data: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)
    rules: LabelRules = field(default_factory=LabelRules)
    columns: Mapping[str, str] = field(default_factory=dict)
    validation: tuple[str, ...] = ()  # files; without, a share of the data by hash
    validation_share: float = 0.1
    features: tuple[str, ...] = ()  # what the heads read; empty: [CLS], and the mean as well when frozen
    folds: int = 0  # of a cross-validation before the run proper
    synonyms: str = ""
    synonym_share: float = 0.15
    unlabelled: tuple[str, ...] = ()
    pseudo_gate: float = 0.0  # least confidence of a pseudo-label; 0 makes none
    ask: int = 0  # texts of `unlabelled` to write down for labelling

    def __post_init__(self) -> None:
        if not 0 < self.validation_share < 1:
            raise InputError(f"validation share: expected a number in (0, 1), got {self.validation_share:g}")
        if self.folds == 1 or self.folds < 0:
            raise InputError(f"folds: expected 2 or more, or 0 for none, got {self.folds}")
        if (self.pseudo_gate or self.ask) and not self.unlabelled:
            raise InputError("pseudo-labels and texts to label need --unlabelled FILE")
        if not 0 <= self.pseudo_gate < 1:
            raise InputError(f"pseudo-label gate: expected a confidence in [0, 1), got {self.pseudo_gate:g}")
        if self.ask < 0:
            raise InputError(f"texts to label: expected 1 or more, or 0 for none, got {self.ask}")


@dataclass(slots=True)
class TrainingData:
    """What a request's files hold."""

    tasks: tuple[Task, ...]
    train: LabelledTexts
    validation: LabelledTexts
    files: list[DataFile]
    notes: tuple[str, ...]


def read_training_data(request: TrainingRequest) -> TrainingData:
    """Reads, labels and divides the data of a request. Raises InputError as `train` does."""
    examples, files = read_data(request.data, request.columns)
    if request.validation:
        held, more = read_data(request.validation, request.columns)
        split = len(examples)
        labelled = label_examples([*examples, *held], request.rules)
        texts = {str(example.values.get("text")) for example in held}
        rows = np.array([text in texts for text in labelled.texts.texts])
        if len(held) and split and rows.all():
            raise InputError("every training text is among the validation texts: give other files")
        files = [*files, *more]
    else:
        labelled = label_examples(examples, request.rules)
        rows = _held_out(labelled, request.validation_share)
    _refuse_unlearnable(labelled.tasks, labelled.texts.take(~rows))
    tested = labelled.texts.take(np.flatnonzero(rows)[:MOST_VALIDATION])
    if len(tested) < LEAST_VALIDATION:
        raise InputError(
            f"expected {LEAST_VALIDATION} texts or more to validate on, got {len(tested)}: give more data, "
            "or raise --validation_share"
        )
    used = ~rows & np.array([split != "test" for split in labelled.splits])
    return TrainingData(labelled.tasks, labelled.texts.take(used), tested, files, labelled.notes)


def _held_out(labelled: Labelled, share: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The data's own validation split where it has one, else a share of the texts by hash."""
    if "validation" in labelled.splits:
        return np.array([split == "validation" for split in labelled.splits])
    return np.array(
        [
            split != "test" and in_share(text, share)
            for text, split in zip(labelled.texts.texts, labelled.splits, strict=True)
        ]
    )


def _refuse_unlearnable(tasks: Sequence[Task], train: LabelledTexts) -> None:
    for task in tasks:
        rows = train.targets[task.name][train.known(task.name)]
        if task.kind == "classes" and len(np.unique(rows.argmax(axis=1))) < 2:
            raise InputError(f"{task.name}: fewer than two classes are left to train on; give more data")


def claim_folder(
    folder: Path, request: TrainingRequest, data: TrainingData, command: str = "train",
    more: Mapping[str, object] | None = None,
) -> None:  # fmt: skip
    """Writes the config, or finds the same one of a run that was interrupted; `more` is added to it.

    Raises OutputError when the folder holds another run, or a finished one.
    """
    if (folder / run_folder.METRICS_NAME).is_file():
        raise OutputError(f"{folder} holds a finished run; choose another folder, or delete it")
    config = {**_run_config(request, data), "command": command, **(more or {})}
    path = folder / run_folder.CONFIG_NAME
    if path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
        same = {key: value for key, value in json.loads(json.dumps(config)).items() if key != "libraries"}
        if any(old.get(key) != value for key, value in same.items()):
            differs = sorted(key for key, value in same.items() if old.get(key) != value)
            raise OutputError(
                f"{folder} holds an unfinished run with another {differs[0]}; choose another folder, "
                "or delete it"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(path, config)


def _run_config(request: TrainingRequest, data: TrainingData) -> dict[str, object]:
    """What a run's config.json holds."""
    return {
        "command": "train",
        "base": request.base,
        "arguments": asdict(request),
        "data": [asdict(file) for file in data.files],
        "unlabelled": _hashes(request.unlabelled),
        "synonyms": _hashes((request.synonyms,) if request.synonyms else ()),
        "notes": list(data.notes),
        "texts": {"train": len(data.train), "validation": len(data.validation)},
        "tasks": [asdict(task) for task in data.tasks],
        "libraries": run_folder.library_versions(),
    }


def _hashes(paths: Sequence[str]) -> list[dict[str, str]]:
    """Files that are read later in a run, as they are at its start. Raises InputError for a missing one."""
    return [{"path": str(path), "sha256": file_hash(path)} for path in (find_files(paths) if paths else ())]


def read_request(folder: Path) -> TrainingRequest:
    """The request of the run in a folder.

    Raises DeploymentError when the folder holds no config of a run.
    """
    path = folder / run_folder.CONFIG_NAME
    try:
        given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["arguments"]
        given["settings"] = Settings(**given["settings"])
        rules = given["rules"]
        labels = {task: tuple(names) for task, names in rules["labels"].items()}
        scale = (float(rules["rating_scale"][0]), float(rules["rating_scale"][1]))
        given["rules"] = LabelRules(scale, rules["sentiment_classes"], tuple(rules["tasks"]), labels)
        fields: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        return TrainingRequest(**fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeploymentError(f"{path} is not the config of a run: {error}") from None


@dataclass(frozen=True, slots=True)
class Reopened:
    """A trained run that a further one starts from, with data for its own labels."""

    model: FeedbackModel
    base: Base
    request: TrainingRequest
    data: TrainingData


def reopen_run(request: TrainingRequest, folder: Path, command: str, more: Mapping[str, object]) -> Reopened:
    """Loads the run that is the request's base, reads the data, and claims `folder` for `command`.

    Raises InputError where the data has no labels for the model's heads, or as `read_training_data` does,
    DeploymentError without such a run, OutputError when the folder holds another run.
    """
    model, base, _ = load_checkpoint(Path(request.base))
    request = with_labels_of(request, model.tasks)
    data = read_training_data(request)
    require_labels_of(model.tasks, data)
    claim_folder(folder, request, data, command, more)
    return Reopened(model, base, request, data)


def with_labels_of(request: TrainingRequest, tasks: Sequence[Task]) -> TrainingRequest:
    """The request with the labels, in their order, that a trained model has."""
    labels = {task.name: task.labels for task in tasks if task.name in (TOPICS, INTENT)}
    classes = next((len(t.labels) for t in tasks if t.name == SENTIMENT), request.rules.sentiment_classes)
    rules = replace(request.rules, labels={**labels, **request.rules.labels}, sentiment_classes=classes)
    return replace(request, rules=rules)


def require_labels_of(tasks: Sequence[Task], data: TrainingData) -> None:
    """Raises InputError unless the data has labels for the model's heads, and the same ones."""
    of_data = {task.name: task for task in data.tasks}
    shared = [task for task in tasks if task.name in of_data]
    if not shared:
        names = ", ".join(task.name for task in tasks) or "none"
        raise InputError(f"the data has labels for none of the model's tasks ({names})")
    for task in shared:
        found = of_data[task.name].labels
        if found != task.labels:
            raise InputError(
                f"{task.name}: the model's head has the labels {list(task.labels[:8])}, the data "
                f"{list(found[:8])}; name the model's in --labels"
            )


def describe_data(data: TrainingData) -> str:
    parts = [f"{len(data.train):,} texts to learn from, {len(data.validation):,} to validate on"]
    for task in data.tasks:
        known = int(data.train.known(task.name).sum())
        parts.append(
            f"{task.name}: {known:,} texts" + (f", {len(task.labels)} labels" if task.labels else "")
        )
    for file in data.files:
        renamed = [f"{field} = {column!r}" for field, column in file.columns.items() if field != column]
        if renamed:
            parts.append(f"{Path(file.path).name}: {', '.join(renamed)}")
    parts += [f"left out: {note}" for note in data.notes]
    return "\n".join(parts)
