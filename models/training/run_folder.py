"""What a run leaves behind beside its weights: its config, its figures, its model card."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from models.training.tasks import Task

CONFIG_NAME: Final = "config.json"
METRICS_NAME: Final = "metrics.json"
HISTORY_NAME: Final = "history.jsonl"
CARD_NAME: Final = "README.md"
LIBRARIES: Final = (
    "livelist",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "numpy",
    "safetensors",
    "onnxruntime",
)


def library_versions() -> dict[str, str]:
    """Python and the libraries that decide what a run comes to, as installed."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Readable JSON, beside its place and then renamed."""
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    scratch.replace(path)


def write_history(path: Path, history: Sequence[Mapping[str, object]]) -> None:
    """One JSON object a step or evaluation."""
    path.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")


def write_card(folder: Path, tasks: Sequence[Task], metrics: Mapping[str, object]) -> None:
    """The README.md of the run in a folder, which has its config.json already."""
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    (folder / CARD_NAME).write_text(model_card(folder.name, config, tasks, metrics), encoding="utf-8")


def model_card(
    name: str, config: Mapping[str, object], tasks: Sequence[Task], metrics: Mapping[str, object]
) -> str:
    """The run's README: what it is, from what, how good, and how to use it."""
    return "\n".join([f"# {name}", "", *_summary(config, tasks), "", *_figures(metrics), "", *_use()]) + "\n"


def _summary(config: Mapping[str, object], tasks: Sequence[Task]) -> Iterator[str]:
    yield f"Fine-tuned from `{config['base']}` by `livelist {config['command']}`."
    yield ""
    yield "| task | kind | labels |"
    yield "|---|---|---|"
    for task in tasks:
        shown = ", ".join(task.labels[:12]) + (
            f" and {len(task.labels) - 12} more" if len(task.labels) > 12 else ""
        )
        yield f"| {task.name} | {task.kind} | {shown or '[0, 1]'} |"
    yield ""
    yield "Trained on:"
    yield ""
    data = config.get("data")
    for file in data if isinstance(data, list) else ():
        name = Path(str(file["path"])).name
        yield f"- `{name}`: {file['rows']:,} rows, SHA-256 `{str(file['sha256'])[:16]}`"
    yield ""
    yield "Check the licence of the base and of the data before you pass the model on."


def _figures(metrics: Mapping[str, object]) -> Iterator[str]:
    yield "## Measured on texts that were held out"
    yield ""
    for name, figures in metrics.items():
        if isinstance(figures, dict):
            yield f"- {name}: " + ", ".join(f"{key} {_shown(value)}" for key, value in figures.items())
        else:
            yield f"- {name}: {_shown(figures)}"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items()) + ")"
    return str(value)


def _use() -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "    livelist export --model THIS_FOLDER --quantize int8 --output ARTEFACT"
    yield '    livelist score --model ARTEFACT "The zipper broke after a day."'
    yield ""
    yield "`config.json` holds seeds, settings, data hashes and library versions."
    yield "`curves.html` holds the curves, where something was trained."
