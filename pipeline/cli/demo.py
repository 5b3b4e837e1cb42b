"""Run the job on the shipped sample, let three people say one thing each, and show what that changes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.cli.console import output_console, progress, quiet_libraries
from pipeline.cli.demo_story import PLACES, STORY, DemoFiles
from pipeline.cli.parsing import CommandParser
from pipeline.config import JobConfig

if TYPE_CHECKING:
    from pipeline.job import RunReport

EXAMPLE: Final = "livelist demo --output out/demo"


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """`--output`."""
    folder = Path("out/demo")
    parser.add_argument("--output", type=Path, default=folder, metavar="FOLDER", help="default: %(default)s")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Two runs of the same job, and what lies between them."""
    quiet_libraries()
    from pipeline.cli.demo_view import show_end, show_person, show_start
    from pipeline.cli.why import Explainer

    console = output_console()
    files = DemoFiles(args.output)
    started = time.monotonic()
    show_start(console)
    files.write_input()
    with progress("starting"):
        _run_job(_job(files, files.before))
    with progress("starting again, with three more events"):
        again = _job(files, files.after, files.words)
        report = _run_job(again)
        explainer = Explainer(again, [said.user_id for said in STORY])
    for said in STORY:
        show_person(console, said, files, explainer)
    show_end(console, report, files, time.monotonic() - started)
    return 0


def _job(files: DemoFiles, output: Path, *more: Path) -> JobConfig:
    inputs = (str(files.events), *(str(path) for path in more))
    return JobConfig(inputs=inputs, items=(str(files.items),), output=str(output), k=PLACES)


def _run_job(config: JobConfig) -> RunReport:
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipeline.job import run_job
    from pipeline.options import DEFAULT_RUNNER

    return run_job(config, PipelineOptions([f"--runner={DEFAULT_RUNNER}"]))
