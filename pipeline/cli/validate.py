"""Say what a run would reject in an input, and why, without running the job.

Ends with 1 if anything is rejected. Duplicates and bursts are found by a run only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Final

from models.errors import ERROR_CODES, UsageError
from models.times import format_time
from pipeline.cli.console import output_console, progress, quiet_libraries, tell_skipped
from pipeline.cli.parsing import CommandParser
from pipeline.flags.groups import add_flags
from pipeline.flags.parsed import cleaning_config, input_format
from pipeline.inputs.file_systems import parse_with_file_systems, use_file_systems
from pipeline.progress import READING, READING_ITEMS
from pipeline.validate import ValidationReport, validate

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE: Final = (
    r"""echo '{"user_id": "u1", "kind": "veiw", "item_id": "i1"}' | livelist validate --input -"""
)


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """The flags of a run that concern its input."""
    parser.usage = "livelist validate --input PATH [flags] [any option of Beam's file systems]"
    add_flags(parser, "input", "cleaning")
    shown = parser.add_argument_group("report").add_argument
    shown("--json", action="store_true", help="one JSON object instead of a table")
    return parse_with_file_systems(parser, arguments)


def run(args: argparse.Namespace) -> int:
    """Read everything and report."""
    if not args.input:
        raise UsageError("--input is needed: a file, a folder, a glob, a URL, or - for stdin")
    quiet_libraries()
    use_file_systems(args.beam, [*args.input, *(args.items or ())])
    form, cleaning = input_format(args), cleaning_config(args)
    tell_skipped([*args.input, *(args.items or ())])
    with progress("opening the input", *([READING, READING_ITEMS] if args.items else [])):
        report = validate(args.input, args.items or (), form, cleaning)
    if args.json:
        print(json.dumps(_as_json(report), ensure_ascii=False))
    else:
        _print(report, output_console())
    return 0 if report.is_clean else 1


def _as_json(report: ValidationReport) -> dict[str, object]:
    """Not `dataclasses.asdict`, which does not copy a Counter rightly before Python 3.12."""
    shown = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    examples = {code: [dataclasses.asdict(row) for row in rows] for code, rows in report.examples.items()}
    return {**shown, "examples": examples}


def _print(report: ValidationReport, console: Console) -> None:
    from rich.text import Text

    console.print(_summary(report), soft_wrap=True)
    if report.catalogue or report.catalogue_rejected:
        rejected = sum(report.catalogue_rejected.values())
        repeated = report.catalogue_repeated
        again = f", {repeated:,} with an id that came before" if repeated else ""
        console.print(f"catalogue: {report.catalogue:,} items{again}, {rejected:,} rejected")
    counts = report.rejected + report.catalogue_rejected
    for code, count in counts.most_common():
        console.print(f"\n[bold]{count:,} {code}[/] → {report.table_of(code)}: {ERROR_CODES[code].meaning}")
        for example in report.examples[code]:
            where = Text.assemble("  ", (example.source_position, "dim"), "  ", example.reason)
            console.print(where, soft_wrap=True)


def _summary(report: ValidationReport) -> str:
    rejected = sum(report.rejected.values())
    line = f"{report.records:,} records = {report.accepted:,} accepted + {rejected:,} rejected"
    if report.first_time is None or report.last_time is None:
        return line
    period = f"{format_time(report.first_time)[:10]} to {format_time(report.last_time)[:10]}"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in report.kinds.most_common())
    return (
        f"{line}\n{report.users:,} users, {report.items:,} items, {period}; {report.with_text:,} with text, "
        f"{report.with_rating:,} with stars, {report.repeated_ids:,} with a repeated id\n{kinds}"
    )
