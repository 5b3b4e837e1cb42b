"""How fresh lists are in an endless run, beside the named alternative: a bundle as often as the engine can.

Each row is one run of `livelist run --streaming` in a process of its own, driven and measured as
`livelist bench live` does: all accepted events, from their time to the list that takes them in.

    python -m tests.benchmarks.bench_live --seconds 10 --rates 50 200
"""

from __future__ import annotations

import argparse
from typing import Any, Final

from pipeline.bench.live import Plan, Step, run_bench

_AT_ONCE: Final = """
import sys
from pipeline.live import follow
follow.MIN_BUNDLE_SECONDS = 0.0
from pipeline.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
_FLAGS: Final = ("--threads", "1", "--snapshot_every_seconds", "2", "--reindex_every_seconds", "10")
_NO_MODEL: Final = (*_FLAGS, "--model", "none")


def print_row(name: str, step: Step) -> None:
    """p50, p95 and p99 of behaviour and words, what was left, and what it took."""
    ages = [f"{age:>8.2f}" for age in step.behaviour] + [f"{age:>8.2f}" for age in step.words]
    rest = f"{max(0.0, step.behind):>8.0f}{step.cpu:>8.0%}{step.resident / 2**20:>8.0f}"
    print(f"{name:<24}{step.rate:>8.0f}" + "".join((ages + [" " * 8] * 6)[:6]) + rest, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=15, help="of appending, a row (default: %(default)g)")
    add("--rates", type=float, nargs="+", default=[50, 200], help="events a second")
    add("--text_rate", type=float, default=50, help="events a second with a model, half of them with words")
    add("--users", type=int, default=2_000)
    add("--items", type=int, default=1_000)
    args = parser.parse_args()

    def driven(name: str, rate: float, **others: Any) -> None:
        given = {"seconds": args.seconds, "users": args.users, "items": args.items, "rate": rate}
        (step,) = run_bench(Plan(**given | others), lambda _: None)
        print_row(name, step)

    columns = ("events/s", "p50 s", "p95 s", "p99 s", "words", "p95 s", "p99 s", "behind", "CPU", "RSS MB")
    print(f"{'feedback':<24}" + "".join(f"{column:>8}" for column in columns))
    for rate in args.rates:
        driven("behaviour", rate, texts=0.0, flags=_NO_MODEL)
    driven("half with words", args.text_rate, texts=0.5, flags=_FLAGS)
    driven("every bundle at once", args.rates[-1], texts=0.0, flags=_NO_MODEL, start=_AT_ONCE)


if __name__ == "__main__":
    main()
