"""`livelist run --runner=DataflowRunner`: what is sent, and where to look at it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pipeline.cli.console import output_console

if TYPE_CHECKING:
    from pipeline.options import Launch


def send(launch: Launch, args: argparse.Namespace) -> int:
    """Submits the job of `livelist run`. An endless one goes on when this command has ended."""
    from pipeline.cli.report import print_report
    from pipeline.dataflow.submit import submit

    print("runner: DataflowRunner, in the cloud", file=sys.stderr)
    submitted = submit(launch.config, launch.beam_options, args.streaming)
    if not submitted.job_id:
        print("a template was written; nothing runs yet")
        return 0
    if submitted.report is not None:
        print_report(submitted.report, output_console())
        return 0
    print(f"job {submitted.job_id} is submitted and goes on without this command: {submitted.page}")
    return 0
