"""An endless job on this machine with a simulated population: watch lists change, and how fresh they are."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.cli.console import output_console, quiet_libraries
from pipeline.cli.parsing import CommandParser
from pipeline.flags.values import positive_float

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from models.records import TopK
    from pipeline.cli.live_demo_feed import Feed
    from pipeline.live.run import LiveRun

EXAMPLE: Final = "livelist live-demo --seconds 60"

_SHOWN_USERS: Final = 4
_PLACES: Final = 5
_REFRESH_SECONDS: Final = 0.5


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """How long, how much, and where."""
    add = parser.add_argument
    add("--seconds", type=positive_float, default=60.0, metavar="SECONDS", help="default: %(default)g")
    add("--rate", type=positive_float, default=40.0, metavar="EVENTS", help="a second (default: %(default)g)")
    add("--users", type=int, default=200, metavar="USERS", help="default: %(default)s")
    add("--texts", type=float, default=0.15, metavar="SHARE", help="of events with words (%(default)g)")
    add("--output", type=Path, metavar="FOLDER", help="keep the tables there (default: a folder that goes)")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> int:
    """Run the job in this process while a thread sends events; drain; say how fresh lists were."""
    import tempfile

    quiet_libraries()
    from pipeline.bench.freshness import in_words
    from pipeline.cli.live_demo_feed import open_feed

    console = output_console()
    with tempfile.TemporaryDirectory(prefix="livelist-demo-") as folder:
        output = args.output or Path(folder, "out")
        with open_feed(Path(folder), console) as feed:
            behaviour, words, report = _run_job(args, feed, output, console)
    console.print(f"\n{report}", soft_wrap=True)
    if words:
        console.print(f"words, to the list that knows their score: {in_words(words)} s")
    console.print(f"freshness {in_words(behaviour)}")
    return 0


def _run_job(
    args: argparse.Namespace, feed: Feed, output: Path, console: Console
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Quantiles of the freshness of behaviour and words since the population began; the books of the run."""
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipeline.bench.population import Population, send_at_rate, shop_items
    from pipeline.cli.live_view import stopped_by_signals, warnings_shown
    from pipeline.config import JobConfig
    from pipeline.live.freshness import quantiles_between
    from pipeline.live.job import ENGINE
    from pipeline.live.run import run_live
    from pipeline.live.state import live_state
    from pipeline.tables.output_folder import new_run_id

    titles = shop_items()
    population = Population(args.users, sorted(titles), args.texts)
    feed.send([population.line() for _ in range(500)])
    config = JobConfig((feed.uri,), str(output), threads=1, snapshot_every_seconds=2.0)
    run_id = new_run_id()
    state, view = live_state(run_id), _View(titles)
    fresh = state.freshness
    before: list[list[int]] = []

    def live_on() -> None:
        while not (fresh.behaviour.cumulative()[-1] or state.stop.wait(0.1)):
            pass
        before.extend((fresh.behaviour.cumulative(), fresh.words.cumulative()))
        deadline = time.time() + args.seconds
        while not state.stop.is_set() and (left := deadline - time.time()) > 0:
            send_at_rate(population, feed.send, args.rate, min(1.0, left))
        state.stop.set()

    def watch(run: LiveRun) -> None:
        view.run = run
        run.state.on_list = view.note

    with warnings_shown(), stopped_by_signals(state, None), _shown(view, console):
        threading.Thread(target=live_on, name="population", daemon=True).start()
        report = run_live(config, PipelineOptions([f"--runner={ENGINE}"]), run_id, watch)
    after = fresh.behaviour.cumulative(), fresh.words.cumulative()
    behaviour, words = (quantiles_between(*looks) for looks in zip(before or after, after, strict=True))
    return behaviour, words, report.accounting.as_line()


class _View:
    """The newest lists of those who act most, and the figures of the run."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles
        self._lists: dict[str, TopK] = {}
        self._changes: dict[str, int] = {}
        self.run: LiveRun | None = None

    def note(self, made: TopK) -> None:
        self._lists[made.user_id] = made
        self._changes[made.user_id] = self._changes.get(made.user_id, 0) + 1

    def __rich__(self) -> RenderableType:
        from pipeline.cli.live_view import status_line

        if self.run is None:
            return Text("starting")
        table = Table(expand=True)
        changes = self._changes.copy()  # the engine's thread goes on meanwhile
        users = sorted(changes, key=lambda user: (-changes[user], user))[:_SHOWN_USERS]
        for user in users:
            table.add_column(f"{user}, {changes[user]} lists", ratio=1, no_wrap=True)
        for place in range(_PLACES):
            table.add_row(*(self._item(user, place) for user in users))
        return Group(table, Text(status_line(self.run.state)))

    def _item(self, user: str, place: int) -> str:
        items = self._lists[user].items
        if place >= len(items):
            return ""
        return f"{place + 1} {self._titles.get(items[place].item_id, items[place].item_id)}"


def _shown(view: _View, console: Console) -> Live:
    """On a terminal it changes in place; elsewhere the last state is printed."""
    return Live(view, console=console, refresh_per_second=1 / _REFRESH_SECONDS, transient=False)
