"""Freshness and throughput of the endless job on a real Flink cluster of this machine.

    python -m tests.benchmarks.bench_flink --rate 100 --seconds 60 --parallelism 1 2

Events of a Zipf-distributed population come at a steady rate, each stamped with the moment at which it is
written to the log; `lists` are events that a written list shows, their age is from event to row. Then as
many events as --backlog says lie there at once, and the time until all are in the tables is the
throughput. Needs Java and Maven. The named alternatives, in the same run: parallelism 1 with bundles of
500 ms, and for the throughput workers that keep no states.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from models.records import MICROS_PER_SECOND
from pipeline.bench.freshness import quantiles, read_freshness
from pipeline.bench.population import Population, append_at_rate
from pipeline.cli.console import quiet_libraries
from pipeline.cluster.settings import ClusterSettings
from pipeline.flink.plan import POLL_SECONDS
from pipeline.flink.submit import cancel
from tests.flink.harness import Scenario, cluster
from tests.pipeline.live.feedback_log import ITEMS, shop_log

USERS: Final = 10_000
_WARM_SECONDS: Final = 15.0  # not counted: processes start, caches fill
_SETTLE_SECONDS: Final = 10.0
_MOST_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Measured:
    """One run."""

    what: str
    sent: int
    accepted: int
    lists: int
    ages: tuple[float, ...]  # seconds, sorted
    checkpoint_mb: float
    load: float  # of the machine, one minute

    def line(self) -> str:
        """One row of the table."""
        half, most, nearly = quantiles(self.ages) or (float("nan"),) * 3
        return (
            f"{self.what:<34} {self.sent:>7,} {self.accepted:>8,} {self.lists:>7,} {half:>6.2f} {most:>6.2f} "
            f"{nearly:>6.2f} {self.checkpoint_mb:>8.1f} {self.load:>5.1f}"
        )


HEADER: Final = (
    f"{'':<34} {'sent':>7} {'accepted':>8} {'lists':>7} {'p50 s':>6} {'p95 s':>6} {'p99 s':>6} "
    f"{'state MB':>8} {'load':>5}"
)


def measure(
    settings: ClusterSettings, folder: Path, what: str, args: argparse.Namespace, **plan: object
) -> Measured:
    """One job: warmed up, then measured, then stopped."""
    scenario = Scenario(settings, folder, "bench", shop_log(), plan)
    scenario.write(1.0)
    scenario.start()
    scenario.await_rows()
    people = Population(USERS, ITEMS, texts=0.0)
    log = scenario.inputs / "population.jsonl"
    append_at_rate(people, log, args.rate, _WARM_SECONDS)
    began = time.time()
    sent = append_at_rate(people, log, args.rate, args.seconds)
    ended = time.time()
    time.sleep(_SETTLE_SECONDS)
    facts = scenario.status().facts
    cancel(settings, scenario.name)
    ages = tuple(read_freshness(scenario.output, began, ended).behaviour)
    counted = accepted_between(scenario.output, began, ended)
    return Measured(what, sent, counted, len(ages), ages, facts.checkpoint_bytes / 1e6, os.getloadavg()[0])


def throughput(settings: ClusterSettings, folder: Path, events: int, **plan: object) -> float:
    """Events a second, while a backlog is read that was written at once; a job that runs already."""
    scenario = Scenario(settings, folder, "bench", shop_log(), plan)
    scenario.write(1.0)
    scenario.start()
    scenario.await_rows()
    people, before = Population(USERS, ITEMS, texts=0.0), accounted(scenario)
    partial = folder / "backlog"
    partial.write_bytes(b"".join(people.line() for _ in range(events)))
    began = time.monotonic()
    partial.rename(scenario.inputs / "population.jsonl")
    while accounted(scenario) - before < events and time.monotonic() - began < _MOST_SECONDS:
        time.sleep(0.1)
    took, done = time.monotonic() - began, accounted(scenario) - before
    cancel(settings, scenario.name)
    return done / took


def accounted(scenario: Scenario) -> int:
    """Events that stand in a table: some people send so much at once that the rest is set aside."""
    return scenario.rows("scored_feedback") + scenario.rows("quarantine")


def accepted_between(output: Path, begin: float, end: float) -> int:
    """Events of that time that had an effect by now."""
    times = pq.read_table(output / "scored_feedback", columns=["event_time"])["event_time"].cast("int64")
    seconds = (micros / MICROS_PER_SECOND for micros in times.to_pylist())
    return sum(begin <= second < end for second in seconds)


def tell_throughput(settings: ClusterSettings, folder: Path, args: argparse.Namespace, first: float) -> float:
    """A line for every parallelism, with its ratio to the first rate that was measured, which is returned."""
    for parallel in args.parallelism:
        where = folder / f"backlog-{parallel}"
        rate = throughput(settings, where, args.backlog, parallelism=parallel)
        shutil.rmtree(where)
        first = first or rate
        print(
            f"parallelism {parallel}: a backlog of {args.backlog:,} events at {rate:,.0f}/s "
            f"({rate / first:.2f} of the first; load {os.getloadavg()[0]:.1f})",
            flush=True,
        )
    return first


def measure_all(settings: ClusterSettings, folder: Path, args: argparse.Namespace) -> None:
    """The table of freshness."""
    print(
        f"{args.rate:g} events/s for {args.seconds:g} s, poll {args.poll_seconds:g} s",
        HEADER,
        sep="\n",
        flush=True,
    )
    plans = [("parallelism 1, bundles 500 ms", {"parallelism": 1, "bundle_millis": 500})]
    plans += [
        (f"parallelism {parallel}, bundles {millis} ms", {"parallelism": parallel, "bundle_millis": millis})
        for parallel in args.parallelism
        for millis in args.bundle_millis
    ]
    for number, (what, plan) in enumerate(plans):
        plan |= {"poll_seconds": args.poll_seconds}
        print(measure(settings, folder / str(number), what, args, **plan).line(), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=100.0, help="events a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run (default: %(default)s)")
    parser.add_argument("--parallelism", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--bundle_millis", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--poll_seconds", type=float, default=POLL_SECONDS)
    parser.add_argument("--backlog", type=int, default=20_000, help="events; 0: no throughput is measured")
    parser.add_argument("--checkpoint_seconds", type=float, default=3.0)
    parser.add_argument("--state_cache_mb", type=int, nargs="+", default=[64, 0])
    args = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="livelist-bench-"))
    quiet_libraries()
    first = 0.0
    try:
        for number, cache in enumerate(args.state_cache_mb):
            where = folder / f"cluster-{number}"
            given = {"checkpoint_seconds": args.checkpoint_seconds, "state_cache_mb": cache, "nice": 0}
            with cluster(where, **given) as settings:
                if not number:
                    measure_all(settings, folder, args)
                if args.backlog:
                    print(f"workers that keep {cache} MB of states", flush=True)
                    first = tell_throughput(settings, folder, args, first)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
