"""Look at a run's tables in the browser: users' lists and why, their history, the run at a glance."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import Final

from models.errors import DeploymentError, InputError, UsageError
from pipeline.cli.console import quiet_libraries
from pipeline.cli.parsing import CommandParser

EXAMPLE: Final = """livelist ui --output out/demo/after --open
  (the tables are there after `livelist demo`)"""

_NEEDED: Final = ("starlette", "uvicorn")


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """Which tables, and where the page is."""
    add = parser.add_argument
    add("--output", metavar="FOLDER", help="of a run, bounded or endless (needed)")
    add(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="to listen on (default: %(default)s, this machine)",
    )
    add("--port", type=int, default=8321, metavar="PORT", help="default: %(default)s; 0: any free one")
    add("--open", action="store_true", help="in the browser of this machine")
    add("--user_id_key", metavar="KEY", help="of the run; better set LIVELIST_USER_ID_KEY")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    quiet_libraries()
    if not args.output:
        raise UsageError("--output is needed: the folder of a run")
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise DeploymentError("livelist ui needs: pip install 'livelist[ui]'")
    from pipeline.flags.parsed import USER_ID_KEY_VARIABLE
    from pipeline.listening import is_loopback
    from pipeline.ui.serving import listen, serve

    output = _folder(args.output)
    key = os.environ.get(USER_ID_KEY_VARIABLE) if args.user_id_key is None else args.user_id_key
    with listen(args.host, args.port) as listening:
        if not is_loopback(args.host):
            print(
                f"warning: --host {args.host} shows every user's list and history to whoever reaches this "
                "machine, without a password",
                file=sys.stderr,
            )
        serve(listening, args.host, output, key.encode() if key else None, args.open)
    return 0


def _folder(output: str) -> Path:
    from pipeline.tables.output_folder import is_local, local_path

    if not is_local(output):
        raise UsageError(f"--output {output}: the page reads a folder of this machine; copy the tables there")
    folder = local_path(output)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: there is no such folder; make the tables first: livelist run --output {folder}"
        )
    return folder
