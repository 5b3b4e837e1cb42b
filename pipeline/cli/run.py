"""Feedback in; refreshed, explained top-K tables out. Every Beam option works besides the flags below."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from pipeline.cli.console import output_console, progress, quiet_libraries
from pipeline.cli.parsing import CommandParser
from pipeline.flags import add_job_flags

EXAMPLE: Final = """livelist run --input out/demo/input/events.jsonl.gz --output out/run
  (the file is there after `livelist demo`)"""


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """Our flags; what is left over is Beam's, or refused."""
    parser.usage = "livelist run --input PATH --output FOLDER [flags] [any Beam option]"
    add_job_flags(parser)
    flags, rest = parser.parse_known_args(arguments)
    flags.beam = rest
    return flags


def run(args: argparse.Namespace) -> int:
    """Run the job and say what came of it."""
    quiet_libraries()
    from pipeline.options import parse_launch

    launch = parse_launch(args, args.beam, "livelist run", os.environ)
    print(f"runner: {launch.notice}", file=sys.stderr)
    from pipeline.cli.report import print_report
    from pipeline.job import run_job

    with progress("running the job"):
        report = run_job(launch.config, launch.beam_options)
    print_report(report, output_console())
    return 0
