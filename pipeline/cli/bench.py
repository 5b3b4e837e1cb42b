"""How fresh the lists of an endless job are on this machine, at which rates, and what limits it."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table

from models.errors import UsageError
from pipeline.cli.console import output_console
from pipeline.cli.parsing import CommandParser
from pipeline.flags.values import positive_float

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.bench.live import Plan, Step

EXAMPLE: Final = """livelist bench live
  livelist bench live --rate 100 --seconds 60
  livelist bench live --rate 100 --seconds 60 --batch_seconds 5      (a slow encoder holds up no list)
  livelist bench live --soak_minutes 60 --plot out/soak.svg          (memory, at one rate)
  livelist bench live --soak_minutes 60 --most_mb_a_minute 1         (1 where it grew faster)"""

_SOAK_RATE: Final = 100.0


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """What to drive, and how hard."""
    add = parser.add_argument
    add("what", choices=("live",), help="the endless job on this machine, following a file")
    add("--seconds", type=positive_float, default=10.0, metavar="SECONDS", help="a step (default: 10)")
    add(
        "--rate",
        type=positive_float,
        metavar="EVENTS",
        help="this rate alone (default: 100 a second, then twice that, up to what is sustained)",
    )
    add("--users", type=int, default=2_000, metavar="USERS", help="Zipf distributed (default: %(default)s)")
    add("--items", type=int, default=1_000, metavar="ITEMS", help="likewise (default: %(default)s)")
    add("--texts", type=float, default=0.1, metavar="SHARE", help="of events with words (%(default)s)")
    add("--model", metavar="FOLDER", help="an exported model, or none (default: the shipped one)")
    add(
        "--batch_seconds",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="make the encoder that much slower, for each batch of texts",
    )
    add(
        "--soak_minutes",
        type=positive_float,
        metavar="MINUTES",
        help=f"--rate (default: {_SOAK_RATE:g}) for so long, and how memory grew",
    )
    add(
        "--most_mb_a_minute",
        type=positive_float,
        metavar="MEGABYTES",
        help="with --soak_minutes: exit code 1 where memory grew faster after its warm-up",
    )
    add("--plot", type=Path, metavar="FILE", help="write the plot there, as SVG")
    args = parser.parse_args(arguments)
    if args.most_mb_a_minute is not None and args.soak_minutes is None:
        raise UsageError("--most_mb_a_minute goes with --soak_minutes")
    return args


def run(args: argparse.Namespace) -> int:
    """Drive, print each step, then the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the job that is measured must not stay behind
    from pipeline.bench.live import Plan

    flags = ["--threads", "1", *(["--model", args.model] if args.model else [])]
    plan = Plan(
        args.seconds,
        users=args.users,
        items=args.items,
        texts=args.texts,
        flags=flags,
        rate=args.rate,
        batch_seconds=args.batch_seconds,
    )
    return _soak(plan, args) if args.soak_minutes else _bench(plan, args)


def _bench(plan: Plan, args: argparse.Namespace) -> int:
    from pipeline.bench.live import limit_of, processors, run_bench, sustained_maximum
    from pipeline.bench.plot import plot_freshness

    console = output_console()

    def tell(step: Step) -> None:
        kept = "kept up"
        if not step.sustained:
            kept = f"{step.behind:,.0f} events and {step.words_behind:,.0f} texts behind"
        console.print(f"{step.rate:,.0f} events a second for {plan.seconds:g} s: {kept}", style="dim")

    steps = run_bench(plan, tell)
    _print_table(steps, console)
    if plan.rate is None:
        console.print(f"sustained maximum: {sustained_maximum(steps):,.0f} events a second")
        console.print(f"limit: {limit_of(steps, processors())}", soft_wrap=True)
    _write_plot(args.plot, lambda: plot_freshness(steps, "From event to list"), console)
    return 0


def _soak(plan: Plan, args: argparse.Namespace) -> int:
    import dataclasses

    from pipeline.bench.plot import plot_memory
    from pipeline.bench.soak import growth_of, run_soak

    console = output_console()
    plan = dataclasses.replace(plan, rate=args.rate or _SOAK_RATE)
    step, samples = run_soak(plan, args.soak_minutes * 60)
    _print_table([step], console)
    growth = growth_of(samples)
    console.print(growth.told(), soft_wrap=True)
    _write_plot(args.plot, lambda: plot_memory(samples, f"{plan.rate:g} events a second"), console)
    if args.most_mb_a_minute is None or not growth.is_above(args.most_mb_a_minute):
        return 0
    console.print(f"memory grew faster than --most_mb_a_minute {args.most_mb_a_minute:g}")
    return 1


def _write_plot(path: Path | None, draw: Callable[[], str], console: Console) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(draw())
        console.print(f"plot: {path}")


def _print_table(steps: list[Step], console: Console) -> None:
    last = "; the last row is half of the maximum" if len(steps) > 1 else ""
    table = Table(title=f"from event to list, in seconds{last}")
    names = ("events/s", "p50", "p95", "p99", "words p50", "p95", "p99", "done/s", "behind", "CPU", "RSS MB")
    for name in names:
        table.add_column(name, justify="right")
    for step in steps:
        ages = [_seconds(ages) for ages in (step.behaviour, step.words)]
        table.add_row(
            f"{step.rate:,.0f}",
            *ages[0],
            *ages[1],
            f"{step.throughput:,.0f}",
            f"{max(0.0, step.behind):,.0f}",
            f"{step.cpu:.0%}",
            f"{step.resident / 2**20:,.0f}",
        )
    console.print(table)
    console.print(
        "all accepted events; a list that shows nothing new counts when it was found so", style="dim"
    )


def _seconds(ages: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f"{age:.2f}" for age in ages) or ("",) * 3
