"""How fresh lists are in an endless run: events appended at a stated rate, beside lists that come out.

Each row is one run of `livelist run --streaming` in a process of its own, driven and measured as
`livelist bench live` does: from the time of an event to the written list that shows it. Lists that show
nothing new are held back and so not measured. The last row is the named alternative: bundles as often
as the engine can.

    python -m tests.benchmarks.bench_live --seconds 10 --rates 50 200

A soak is one rate for long; `grown` says by how many MB the job grew meanwhile (its state does):

    python -m tests.benchmarks.bench_live --seconds 3600 --rates 100 --only_rates
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.bench.freshness import quantiles, read_freshness
from pipeline.bench.job import BenchedJob
from pipeline.bench.population import Population, append_at_rate

_AT_ONCE: Final = """
import sys
from pipeline import follow
follow.MIN_BUNDLE_SECONDS = 0.0
from pipeline.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
_FLAGS: Final = ("--threads", "1", "--snapshot_every_seconds", "2", "--reindex_every_seconds", "10")


@dataclass(frozen=True)
class Case:
    """One run."""

    name: str
    rate: int  # events a second
    texts: float  # share of events with words
    model: bool = False
    every_bundle: bool = False  # without the pause between bundles


def run_case(case: Case, seconds: float, users: int, items: int, warm: int) -> dict[str, float]:
    """Starts the job on a warm log, appends at the rate, drains it and reads what it wrote."""
    flags = [*_FLAGS, *([] if case.model else ["--model", "none"])]
    with tempfile.TemporaryDirectory() as folder:
        events, output = Path(folder, "events"), Path(folder, "out")
        events.mkdir()
        population, log = Population(users, items, case.texts), events / "log.jsonl"
        log.write_bytes(b"".join(population.line() for _ in range(warm)))
        start = {"start": _AT_ONCE} if case.every_bundle else {}
        with BenchedJob(events, output, flags, **start) as job:
            assert job.await_that(lambda: job.metrics().get("livelist_lists_total"), 180), "no list in time"
            before, began = job.metrics(), time.time()
            append_at_rate(population, log, case.rate, seconds)
            after, ended = job.metrics(), time.time()
        fresh = read_freshness(output, began, ended)
    ages = fresh.texts if case.model else fresh.behaviour
    assert ages, "no list came out while events were appended"
    used = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
    resident, at_rest = after["livelist_resident_bytes"], before["livelist_resident_bytes"]
    found = dict(zip(("p50", "p95", "p99"), quantiles(ages), strict=True))
    told = {"cpu": used / (ended - began), "rss": resident / 2**20, "grown": (resident - at_rest) / 2**20}
    return found | told | {"measured": len(ages)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=15, help="of appending, a row (default: %(default)g)")
    add("--rates", type=int, nargs="+", default=[50, 200], help="events a second")
    add("--text_rate", type=int, default=50, help="events a second with a model, half of them with words")
    add("--users", type=int, default=2_000)
    add("--items", type=int, default=1_000)
    add("--warm", type=int, default=5_000, help="events that are there at the start")
    add("--only_rates", action="store_true", help="without the rows with a model and at once")
    args = parser.parse_args()
    cases = [Case("behaviour", rate, 0.0) for rate in args.rates]
    if not args.only_rates:
        cases.append(Case("words, to their score", args.text_rate, 0.5, model=True))
        cases.append(Case("every bundle at once", args.rates[-1], 0.0, every_bundle=True))
    columns = ("events/s", "p50 s", "p95 s", "p99 s", "measured", "CPU", "RSS MB", "grown")
    print(f"{'feedback':<22}" + "".join(f"{column:>9}" for column in columns))
    for case in cases:
        found = run_case(case, args.seconds, args.users, args.items, args.warm)
        times = "".join(f"{found[name]:>9.2f}" for name in ("p50", "p95", "p99"))
        rest = f"{found['measured']:>9.0f}{found['cpu']:>9.0%}{found['rss']:>9.0f}{found['grown']:>9.0f}"
        print(f"{case.name:<22}{case.rate:>9}{times}{rest}", flush=True)


if __name__ == "__main__":
    main()
