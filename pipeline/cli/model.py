"""Look at an exported model, compare two, verify one, or publish it where a running job takes it up."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from models.errors import InputError, UsageError
from pipeline.cli.console import output_console, quiet_libraries
from pipeline.cli.parsing import CommandParser
from pipeline.flags.values import count

EXAMPLE: Final = "livelist model verify models/default"

_SHOWN: Final = (
    "name", "version", "format", "precision", "inputs", "outputs", "dimension", "max_length", "languages",
    "sentiment_labels", "labels", "not_served", "vocabulary", "ngrams", "quantization",
)  # fmt: skip


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """An action and its artefacts."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="what its manifest says")
    compare = actions.add_parser("compare", help="two models on the lines of a text file")
    verify = actions.add_parser("verify", help="every check that a job makes of it, and the slow ones")
    publish = actions.add_parser("publish", help="copy it to a folder that jobs follow, and point at it")
    for action in (show, verify, publish):
        what = "of an exported model (default: the shipped one)"
        action.add_argument("artefact", nargs="?", metavar="FOLDER", help=what)
    publish.add_argument("--to", required=True, metavar="FOLDER", help="the --model of the jobs")
    compare.add_argument("first", metavar="FIRST")
    compare.add_argument("second", metavar="SECOND")
    compare.add_argument(
        "--texts", required=True, metavar="FILE", help="one text a line; - for standard input"
    )
    compare.add_argument(
        "--threads", type=count, default=1, help="of each encoder; 0: one a core (default: 1)"
    )
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Does it; the exit code of `verify` is 1 when a check fails."""
    quiet_libraries()
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "show": _show, "compare": _compare, "verify": _verify, "publish": _publish,
    }  # fmt: skip
    return actions[args.action](args)


def _folder(given: str | None) -> Path:
    from models.encoder.artefact import DEFAULT_MODEL_PATH
    from models.pointer import read_pointer

    folder = DEFAULT_MODEL_PATH if given is None else Path(given)
    return read_pointer(folder) or folder


def _show(args: argparse.Namespace) -> int:
    from models.encoder.artefact import load_artefact, read_manifest

    folder = _folder(args.artefact)
    artefact, manifest = load_artefact(folder), read_manifest(folder)
    rows = {"folder": str(folder), "size": f"{artefact.size / 1e6:.1f} MB, hashes verified"}
    rows |= {key: _plain(manifest[key]) for key in _SHOWN if manifest.get(key)}
    for head in (artefact.contract.topics, artefact.contract.intents):
        if head is not None:
            rows[f"{len(head.names)} labels"] = ", ".join(head.names)
    base = manifest.get("base_model")
    if isinstance(base, dict):
        rows["base model"] = ", ".join(str(value) for value in base.values())
    data = manifest.get("training_data")
    if isinstance(data, list):
        rows["trained on"] = "; ".join(_plain(each) for each in data)
    rows |= _figures(manifest.get("metrics"))
    _print_rows(rows)
    return 0


def _figures(metrics: object, name: str = "") -> dict[str, str]:
    """Nested metrics as one row for each group of numbers."""
    if not isinstance(metrics, dict):
        return {}
    numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    rows = {name or "metrics": ", ".join(f"{k} {v:.4g}" for k, v in numbers.items())} if numbers else {}
    for key, value in metrics.items():
        rows |= _figures(value, f"{name} {key}".strip())
    return rows


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(str(each) for each in value.values())
    return ", ".join(str(each) for each in value) if isinstance(value, list) else str(value)


def _print_rows(rows: Mapping[str, str]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    output_console().print(table)


def _compare(args: argparse.Namespace) -> int:
    from models.encoder.comparison import compare_models
    from models.encoder.scorer import TextScorer

    texts = _read_lines(args.texts)
    first, second = (TextScorer(_folder(path), threads=args.threads) for path in (args.first, args.second))
    try:
        found = compare_models(first, second, texts)
    except ValueError as error:
        raise InputError(f"{args.texts}: {error}") from None
    cosine = "embeddings of other widths" if found.cosine is None else "{:.4f} / {:.4f}".format(*found.cosine)
    _print_rows(
        {
            "first": f"{first.artefact.name} {first.model_version}, {first.artefact.size / 1e6:.1f} MB",
            "second": f"{second.artefact.name} {second.model_version}, {second.artefact.size / 1e6:.1f} MB",
            "texts": f"{found.texts} scored by both; failed {found.failures[0]} and {found.failures[1]}",
            "polarity on the same side": f"{found.sign_agreement:.1%}",
            "same sentiment": f"{found.label_agreement:.1%}",
            "correlation of polarity": f"{found.polarity_correlation:.4f}",
            "mean difference of polarity": f"{found.mean_abs_polarity_delta:.4f}",
            "cosine of embeddings, mean / p1": cosine,
            "second's speed": f"{found.speed_ratio:.2f} x the first's",
            "second's size": f"{found.size_ratio:.2f} x the first's",
        }
    )
    return 0


def _read_lines(path: str) -> list[str]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a file with one text a line") from None
    texts = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not texts:
        raise UsageError(f"--texts: expected one text a line, got nothing in {path}")
    return texts


def _verify(args: argparse.Namespace) -> int:
    from rich.text import Text

    from models.encoder.verification import verify_model

    console, sound = output_console(), True
    for check in verify_model(_folder(args.artefact)):
        sound &= check.sound
        mark, style = ("ok", "green") if check.sound else ("BROKEN", "bold red")
        line = Text.assemble((f"{mark:<8}", style), f"{check.name:<12}{check.found}")
        console.print(line, soft_wrap=True)
    return 0 if sound else 1


def _publish(args: argparse.Namespace) -> int:
    from models.encoder.store import publish_model

    home = publish_model(_folder(args.artefact), args.to)
    print(f"published {home.name}; jobs with --model {args.to} take it up at their next look")
    return 0
