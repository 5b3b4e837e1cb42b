"""Print one user's current list with its reasons, from the tables of a run."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.errors import UsageError
from pipeline.cli.console import output_console, quiet_libraries
from pipeline.cli.parsing import CommandParser
from pipeline.inputs.file_systems import parse_with_file_systems, use_file_systems

if TYPE_CHECKING:
    from models.records import TopK

_TIMES: Final = ("event_time", "scored_time", "emitted_time", "window_end")
EXAMPLE: Final = """livelist recommend --output out/demo/after --user nora
  (the tables are there after `livelist demo`)"""


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """Whose list, from where."""
    parser.add_argument("--output", metavar="FOLDER", help="of the run (needed)")
    parser.add_argument("--user", metavar="USER_ID", help="whose list (needed)")
    parser.add_argument("--k", type=int, metavar="PLACES", help="show fewer places")
    parser.add_argument("--user_id_key", metavar="KEY", help="of the run; better set LIVELIST_USER_ID_KEY")
    parser.add_argument("--json", action="store_true", help="one JSON object with all reasons and versions")
    parser.usage = "livelist recommend --output FOLDER --user USER_ID [any option of Beam's file systems]"
    return parse_with_file_systems(parser, arguments)


def run(args: argparse.Namespace) -> int:
    """Read and print."""
    if not args.output:
        raise UsageError("--output is needed: the folder of a run")
    if not args.user:
        raise UsageError("--user is needed: a user_id of the feedback")
    quiet_libraries()
    use_file_systems(args.beam, [args.output])
    from models.text import pseudonym
    from pipeline.flags.parsed import USER_ID_KEY_VARIABLE
    from pipeline.tables.reader import read_latest

    key = os.environ.get(USER_ID_KEY_VARIABLE) if args.user_id_key is None else args.user_id_key
    top = read_latest(args.output, pseudonym(args.user, key.encode()) if key else args.user)
    if args.k is not None:
        top = dataclasses.replace(top, items=top.items[: args.k])
    if args.json:
        print(json.dumps(_as_json(top), ensure_ascii=False))
    else:
        _print(top, args.user, args.output)
    return 0


def _as_json(top: TopK) -> dict[str, object]:
    from models.times import format_time

    times = {name: getattr(top, name) for name in _TIMES}
    written = {name: None if time is None else format_time(time) for name, time in times.items()}
    return {**dataclasses.asdict(top), **written}


def _print(top: TopK, user: str, output: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    from pipeline.tables.titles import titles_of

    title = titles_of(Path(output))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "item", "score", "why"):
        table.add_column(name, justify="right" if name in ("", "score") else "left")
    for item in top.items:
        item_id = escape(item.item_id)
        named = escape(title(item.item_id))
        shown = named if named == item_id else f"{named} [dim]{item_id}[/]"
        reasons = "\n".join(_why(escape(reason.text), reason.contribution) for reason in item.reasons)
        table.add_row(str(item.rank), shown, f"{item.score:.3f}", reasons)
    console = output_console()
    console.print(f"[bold]{escape(user)}[/], as of {_time(top.event_time)}\n")
    console.print(table)
    console.print(
        f"\n[dim]model {top.model_version or 'none'}, index {top.index_version}, list {top.list_hash[:12]}[/]"
    )


def _why(text: str, contribution: float) -> str:
    return f"{text} [dim]{contribution:+.3f}[/]" if contribution else text


def _time(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
