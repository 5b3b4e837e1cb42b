"""Feedback in; refreshed, explained top-K tables out. Every Beam option works besides the flags below."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from pipeline.cli.console import output_console, progress, quiet_libraries, quiet_workers, tell_skipped
from pipeline.cli.parsing import CommandParser
from pipeline.flags.engines import engine_of, given_flags, refuse_alone, refuse_meaningless
from pipeline.flags.groups import GROUPS, add_flags

if TYPE_CHECKING:
    from pipeline.options import Launch

EXAMPLE: Final = """livelist run --input out/demo/input/events.jsonl.gz --output out/run
  (the file is there after `livelist demo`)

  mkdir -p out/events
  livelist run --streaming --input out/events --output out/live
  (append JSON lines to files in out/events meanwhile; Ctrl-C ends it)"""


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """Our flags; what is left over is Beam's, or refused."""
    parser.usage = "livelist run --input PATH --output FOLDER [flags] [any Beam option]"
    add_flags(parser, *GROUPS)
    flags, rest = parser.parse_known_args(arguments)
    flags.beam = [*rest, "--streaming"] if flags.streaming else rest
    flags.given = given_flags(arguments)
    return flags


def run(args: argparse.Namespace) -> int:
    """Run the job and say what came of it."""
    quiet_libraries()
    from pipeline.options import parse_launch

    launch = parse_launch(args, args.beam, "livelist run", os.environ)
    refuse_alone(args.given)
    refuse_meaningless(args.given, engine_of(launch.runner, args.streaming))
    _know_file_systems(launch)
    if launch.runner == "DataflowRunner":
        from pipeline.cli.dataflow import send

        return send(launch, args)
    if args.streaming:
        return _run_endless(launch, args)
    print(f"runner: {launch.notice}", file=sys.stderr)
    from pipeline.cli.report import print_report
    from pipeline.job import run_job

    if any("multi_processing" in option for option in args.beam):
        quiet_workers()
    if launch.runner == "PrismRunner":
        from pipeline.prism_run import take_binary

        take_binary(launch.beam_options)
    tell_skipped([*launch.config.inputs, *launch.config.items])
    with progress("starting"):
        report = run_job(launch.config, launch.beam_options)
    print_report(report, output_console())
    return 0


def _know_file_systems(launch: Launch) -> None:
    """Inputs are looked at before there is a pipeline, which would hand its options to them."""
    from apache_beam.io.filesystems import FileSystems

    FileSystems.set_options(launch.beam_options)


def _run_endless(launch: Launch, args: argparse.Namespace) -> int:
    from pipeline.cli.live_view import print_live_report, show_status, stopped_by_signals, warnings_shown
    from pipeline.listening import is_loopback
    from pipeline.live.metrics import metrics_of, rendered, served_metrics
    from pipeline.live.run import LiveRun, check_engine, run_live
    from pipeline.live.start import state_folder
    from pipeline.live.state import live_state
    from pipeline.options import refuse_idle_options
    from pipeline.tables.output_folder import new_run_id

    if launch.runner == "FlinkRunner":
        from pipeline.cli.flink import run_in_foreground

        return run_in_foreground(launch.config, launch.beam_options, args)
    if launch.runner == "PrismRunner":
        from pipeline.cli.prism import run_on_prism

        return run_on_prism(launch, args)
    check_engine(launch.runner)
    refuse_idle_options(args.beam)
    run_id = new_run_id()
    state = live_state(run_id)
    with ExitStack() as running:
        running.enter_context(warnings_shown(args.log_format))
        tell = partial(_tell, args.log_format)
        tell(
            f"runner: {launch.runner}, in this process; each list follows what arrived since the one before; "
            f"a restart goes on from {state_folder(launch.config)}"
        )
        if not is_loopback(args.metrics_host):
            tell(
                f"warning: --metrics_host {args.metrics_host} shows the run's figures to whoever reaches "
                "this machine, without a password; users, items and texts are not among them"
            )
        running.enter_context(stopped_by_signals(state, args.run_for_seconds, args.log_format))
        running.enter_context(show_status(state, args.log_format))

        def watch(run: LiveRun) -> None:
            if args.metrics_port is None:
                return
            url = running.enter_context(
                served_metrics(args.metrics_port, lambda: rendered(metrics_of(run)), args.metrics_host)
            )
            tell(f"metrics: {url}")

        report = run_live(launch.config, launch.beam_options, run_id, watch)
    print_live_report(report, output_console())
    return 0


def _tell(log_format: str, notice: str) -> None:
    """A line of standard error, as the rest of it is."""
    if log_format == "json":
        logging.getLogger(__name__).info(notice)
    else:
        print(notice, file=sys.stderr, flush=True)
