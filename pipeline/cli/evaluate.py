"""Measure how well the lists predict a history, by the same pure core as the job.

leave-last-out: each user's last item is held out and the whole catalogue is ranked.
prequential: every interaction is predicted before it is learned from.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.errors import InputError, OutputError, UsageError
from pipeline.cli.console import output_console, progress, quiet_libraries, tell_skipped
from pipeline.cli.parsing import CommandParser, flags_of
from pipeline.flags.groups import GROUPS, RUN_GROUPS, add_flags
from pipeline.flags.parsed import job_config
from pipeline.inputs.file_systems import parse_with_file_systems, use_file_systems
from pipeline.progress import EVALUATION_STAGES, PREDICTING, PROGRESS

if TYPE_CHECKING:
    from models.evaluation import EvaluationReport
    from pipeline.config import JobConfig

EXAMPLE: Final = """livelist evaluate --input out/demo/input/events.jsonl.gz --protocol leave-last-out
  (the file is there after `livelist demo`)"""


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """The flags of a run, and how to measure."""
    parser.usage = "livelist evaluate --input PATH [flags] [any option of Beam's file systems]"
    add = parser.add_argument_group("evaluation").add_argument
    add(
        "--protocol",
        choices=("leave-last-out", "prequential"),
        default="leave-last-out",
        help="default: %(default)s",
    )
    add(
        "--learn",
        choices=("strict", "plus"),
        default="strict",
        help="leave-last-out: learn from all but the last two items of a user, as papers do (default), "
        "or from all but the last, as a stream does",
    )
    add("--json", action="store_true", help="one JSON object instead of a table")
    add("--write", metavar="FILE", help="also write the JSON object to a file")
    add_flags(parser, *(name for name in GROUPS if name not in RUN_GROUPS))
    for_runs = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_flags(for_runs, *RUN_GROUPS)
    for argument in arguments:
        if (flag := argument.split("=", 1)[0]) in flags_of(for_runs):
            raise UsageError(f"{flag} belongs to `livelist run`; evaluate writes no tables")
    return parse_with_file_systems(parser, arguments, for_runs.parse_args([]))


def run(args: argparse.Namespace) -> int:
    """Load, measure and print."""
    quiet_libraries()
    args.output = [os.devnull]  # no tables are written
    config = job_config(args)
    use_file_systems(args.beam, [*config.inputs, *config.items])
    tell_skipped([*config.inputs, *config.items])
    with progress("starting", *EVALUATION_STAGES):
        report = _evaluate(config, args.protocol, args.learn)
    shown = json.dumps(report.as_json())
    if args.write:
        _write(Path(args.write), shown)
    if args.json:
        print(shown)
    else:
        _print(report)
    return 0


def _evaluate(config: JobConfig, protocol: str, learn: str) -> EvaluationReport:
    from models import evaluation
    from pipeline.history import load_history

    history = load_history(config)
    PROGRESS.enter(PREDICTING)
    try:
        if protocol == "prequential":
            return evaluation.evaluate_prequential(
                history.views(),
                history.items,
                history.vectors,
                config.k,
                index_config=config.index,
                ranking_config=config.ranking,
            )
        return evaluation.evaluate_leave_last_out(
            history.views(),
            history.items,
            history.vectors,
            "strict" if learn == "strict" else "plus",
            config.k,
            index_config=config.index,
            ranking_config=config.ranking,
            without=history.without_item,
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


def _print(report: EvaluationReport) -> None:
    from rich.table import Table

    k = report.k
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in (f"HR@{k}", f"NDCG@{k}", f"MRR@{k}", f"recall@{k}", f"coverage@{k}", f"novelty@{k}"):
        table.add_column(name, justify="right")
    for row in report.rows:
        rest = ("" if value is None else f"{value:.3f}" for value in (row.coverage, row.novelty))
        table.add_row(
            row.name, *(f"{value:.4f}" for value in (row.hit_rate, row.ndcg, row.mrr, row.recall)), *rest
        )
    console = output_console()
    learned = f", learn {report.learn}" if report.learn else ""
    console.print(
        f"{report.protocol}{learned}: {report.predictions:,} predictions for {report.users:,} users,"
    )
    console.print(
        f"{report.interactions:,} interactions with {report.items:,} items, the whole catalogue ranked\n"
    )
    console.print(table)
