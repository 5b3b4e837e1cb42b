"""How fresh the lists of an endless job are on this machine, at which rates, and what limits it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table

from pipeline.cli.console import output_console
from pipeline.cli.parsing import CommandParser

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.bench.live import Step

EXAMPLE: Final = """livelist bench live
  livelist bench live --rate 100 --seconds 3600      (a soak: one rate for an hour)
  livelist bench live --plot out/freshness.svg"""


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """What to drive, and how hard."""
    add = parser.add_argument
    add("what", choices=("live",), help="the endless job on this machine, following a file")
    add("--seconds", type=float, default=10.0, metavar="SECONDS", help="of each step (default: %(default)g)")
    add(
        "--rate",
        type=int,
        metavar="EVENTS",
        help="this rate alone (default: 100 a second, and twice that ...)",
    )
    add("--users", type=int, default=2_000, metavar="USERS", help="Zipf distributed (default: %(default)s)")
    add("--items", type=int, default=1_000, metavar="ITEMS", help="likewise (default: %(default)s)")
    add(
        "--texts",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="of events with words (%(default)s)",
    )
    add("--model", metavar="FOLDER", help="an exported model, or none (default: the shipped one)")
    add("--plot", type=Path, metavar="FILE", help="write the plot there, as SVG")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Drive, print each step, then the table."""
    from pipeline.bench.live import Plan, limit_of, run_bench, sustained_maximum

    console = output_console()
    flags = ["--threads", "1", *(["--model", args.model] if args.model else [])]
    plan = Plan(
        args.seconds,
        users=args.users,
        items=args.items,
        texts=args.texts,
        flags=flags,
        rate=args.rate,
    )

    def tell(step: Step) -> None:
        kept = "kept up" if step.sustained else f"{step.backlog:,.0f} events behind"
        console.print(f"{step.rate:,.0f} events a second for {plan.seconds:g} s: {kept}", style="dim")

    steps = run_bench(plan, tell)
    _print_table(steps, console)
    if args.rate is None:
        console.print(f"sustained maximum: {sustained_maximum(steps):,.0f} events a second")
        console.print(f"limit: {limit_of(steps, os.cpu_count() or 1)}")
    if args.plot is not None:
        _plot(steps, args.plot)
        console.print(f"plot: {args.plot}")
    return 0


def _plot(steps: list[Step], path: Path) -> None:
    from pipeline.bench.plot import plot_freshness

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(plot_freshness(steps, "From event to written list"))


def _print_table(steps: list[Step], console: Console) -> None:
    last = "; the last row is half of the maximum" if len(steps) > 1 else ""
    table = Table(title=f"from event to written list, in seconds{last}")
    names = ("events/s", "p50", "p95", "p99", "words p50", "p95", "p99", "done/s", "behind", "CPU", "RSS MB")
    for name in names:
        table.add_column(name, justify="right")
    for step in steps:
        ages = [f"{age:.2f}" for age in (*(step.behaviour or ()), *(step.texts or ()))]
        table.add_row(
            f"{step.rate:,.0f}",
            *(ages + [""] * 6)[:6],
            f"{step.throughput:,.0f}",
            f"{step.backlog:,.0f}",
            f"{step.cpu:.0%}",
            f"{step.resident / 2**20:,.0f}",
        )
    console.print(table)
