"""Print the JSON Schemas of the input records, or the columns of the output tables."""

from __future__ import annotations

import argparse
import json
from typing import Final

from pipeline.cli.parsing import CommandParser

EXAMPLE: Final = "livelist schema feedback"


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """What to print."""
    what = ("feedback", "item", "tables", "errors")
    parser.add_argument("what", nargs="?", choices=what, default="feedback", help="default: feedback")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    if args.what == "tables":
        _print_tables()
    elif args.what == "errors":
        _print_errors()
    else:
        from models.schema import SCHEMAS

        print(json.dumps(SCHEMAS[args.what], indent=2, ensure_ascii=False))
    return 0


def _print_tables() -> None:
    from models.tables import DESCRIPTIONS, SCHEMA_VERSION, describe_table

    print(f"schema version {SCHEMA_VERSION}")
    for name, description in DESCRIPTIONS.items():
        print(f"\n{name}/  {description}")
        for column in describe_table(name):
            null = "or null" if column.nullable else ""
            print(f"  {column.name:<32} {column.type:<24} {null:<8} {column.comment}".rstrip())


def _print_errors() -> None:
    from models.errors import ERROR_CODES

    width = max(map(len, ERROR_CODES))
    for code, meaning in ERROR_CODES.items():
        print(f"{code:<{width}}  {meaning.table:<12}  {meaning.meaning}; {meaning.remedy}")
