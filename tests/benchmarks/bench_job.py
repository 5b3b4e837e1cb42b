"""How fast is the whole job on behaviour events, and what of that is Beam itself?

Writes a stream of views, clicks, carts and purchases (Zipf-distributed items, fixed seed),
runs the job on it from file to tables in one process, and beside it, in the same run, the
bare Beam skeleton of the same shape: read, parse JSON, group by user, count. Prints events/s,
lists/s, the ratio of the two, peak memory, and the share of each stage measured alone.

    python -m tests.benchmarks.bench_job --events 200000 --users 20000 --items 10000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

KINDS = ("view", "view", "view", "view", "click", "click", "cart", "purchase")
START = 1_700_000_000


def write_events(path: Path, events: int, users: int, items: int, seed: int = 7) -> None:
    """A stream in time order; each user's items come from one of 50 tastes, so that the graph has a shape."""
    random = np.random.default_rng(seed)
    who = random.integers(0, users, events)
    taste = random.integers(0, 50, users)
    popular = np.minimum(random.zipf(1.3, events) - 1, items - 1)
    what = np.where(random.random(events) < 0.5, (popular * 50 + taste[who]) % items, popular)
    kind = random.integers(0, len(KINDS), events)
    with path.open("w") as out:
        for n in range(events):
            event = {
                "event_id": f"e{n}",
                "user_id": f"u{who[n]}",
                "kind": KINDS[kind[n]],
                "event_time": START + n * 30,
                "item_id": f"i{what[n]}",
            }
            out.write(json.dumps(event) + "\n")


def run_job(source: str, output: str) -> None:
    """The whole job, without a model: behaviour has no words."""
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipeline.config import JobConfig
    from pipeline.job import run_job as run

    report = run(
        JobConfig(inputs=(source,), output=output, model="none"), PipelineOptions(["--runner=FnApiRunner"])
    )
    assert report.accounting.unaccounted == 0
    print(json.dumps({"seconds": report.seconds, "lists": report.rows["recommendations"]} | memory()))


def run_skeleton(source: str, output: str) -> None:
    """What Beam costs for the same shape: read, parse, group by user, count, write."""
    import apache_beam as beam

    started = time.monotonic()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        (
            pipeline
            | "Read" >> beam.io.ReadFromText(source)
            | "Parse" >> beam.Map(json.loads)
            | "Key" >> beam.Map(_by_user).with_output_types(tuple[str, bytes])
            | "Group" >> beam.GroupByKey()
            | "Count" >> beam.MapTuple(_count)
            | "Write" >> beam.io.WriteToText(output, num_shards=1)
        )
    print(json.dumps({"seconds": time.monotonic() - started} | memory()))


def _by_user(event: dict[str, str]) -> tuple[str, bytes]:
    return event["user_id"], event["item_id"].encode()


def _count(user: str, items: list[bytes]) -> str:
    return f"{user} {sum(1 for _ in items)}"


def memory() -> dict[str, float]:
    """Peak resident memory of this process, MiB."""
    return {"rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure(what: str, source: Path, folder: Path) -> dict[str, float]:
    """Runs one measurement in a process of its own, so that memory and caches are its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_job", "--only", what]
    command += ["--source", str(source), "--output", str(folder / what)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of skeleton and job (default: 3)")
    parser.add_argument("--scale", type=int, default=1, help="also run with this many times events and users")
    parser.add_argument("--only", choices=("job", "skeleton"), help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        {"job": run_job, "skeleton": run_skeleton}[arguments.only](arguments.source, arguments.output)
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="livelist-bench-") as name:
        folder = Path(name)
        base = compare(folder, arguments.events, arguments.users, arguments.items, arguments.rounds)
        one = compare(folder, arguments.users, arguments.users * 20, arguments.items, 1)
        print(f"one event a refresh: {arguments.users / one:,.0f} events/s and lists/s")
        if arguments.scale > 1:
            events, users = arguments.events * arguments.scale, arguments.users * arguments.scale
            scaled = compare(folder, events, users, arguments.items, 1)
            print(f"{arguments.scale}x events and users: {scaled / base:.1f}x the time")


def compare(folder: Path, events: int, users: int, items: int, rounds: int) -> float:
    """Paired rounds; prints the medians and returns the job's seconds."""
    source = folder / "events.jsonl"
    write_events(source, events, users, items)
    jobs, skeletons, lists, rss = [], [], 0.0, 0.0
    for _ in range(rounds):
        skeletons.append(measure("skeleton", source, folder)["seconds"])
        found = measure("job", source, folder)
        jobs.append(found["seconds"])
        lists, rss = found["lists"], max(rss, found["rss_mib"])
    job, skeleton = float(np.median(jobs)), float(np.median(skeletons))
    ratio = float(np.median(np.array(jobs) / np.array(skeletons)))
    print(
        f"{events:,} events, {users:,} users, {items:,} items, {events / lists:.1f} events a list: "
        f"job {job:.1f} s, {events / job:,.0f} events/s, {lists / job:,.0f} lists/s, peak {rss:,.0f} MiB; "
        f"bare Beam {skeleton:.1f} s, {events / skeleton:,.0f} events/s; {ratio:.2f}x its time",
        flush=True,
    )
    return job


if __name__ == "__main__":
    main()
