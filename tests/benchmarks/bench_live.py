"""How fresh lists are in an endless run: lines appended at a stated rate, beside lists that come out.

Each row is one run of `livelist run --streaming` in a process of its own: from the moment a line was
appended to the emitted_time of the list that it refreshed. Lists that show nothing new are held back
and so not measured. The last row is the named alternative: bundles as often as the engine can.

    python -m tests.benchmarks.bench_live --seconds 10 --rates 50 200

A soak is one rate for long; `grown` says by how many MB the job grew meanwhile (its state does):

    python -m tests.benchmarks.bench_live --seconds 3600 --rates 100 --only_rates
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from pipeline.follow import MIN_BUNDLE_SECONDS
from tests.pipeline.feedback_log import COMPLAINTS, PRAISE

KINDS: Final = ("view", "click", "cart", "purchase")
WORDS: Final = (
    "zipper",
    "sleeve",
    "colour",
    "fabric",
    "button",
    "collar",
    "lining",
    "hem",
    "pocket",
    "strap",
)


@dataclass(frozen=True)
class Case:
    """One run."""

    name: str
    rate: int  # lines a second
    texts: float  # share of lines with a text of their own
    model: bool = False
    every_bundle: bool = False  # without the pause between bundles


class Population:
    """Users that come back, Zipf distributed, and items likewise."""

    def __init__(self, users: int, items: int, texts: float) -> None:
        self._chance = random.Random(7)
        self._users, self._items = users, items
        self._texts = texts
        self._made = 0

    def line(self) -> tuple[str, bytes]:
        """(event_id, one line)."""
        self._made += 1
        event_id = f"b{self._made:07d}"
        event = {
            "event_id": event_id,
            "user_id": f"user{self._zipf(self._users)}",
            "item_id": f"item{self._zipf(self._items)}",
            "event_time": time.time(),
        }
        if self._chance.random() < self._texts:
            words = " ".join(self._chance.sample(WORDS, 4))
            event |= {"kind": "review", "text": f"{self._chance.choice(PRAISE + COMPLAINTS)}; {words}"}
        else:
            event["kind"] = self._chance.choice(KINDS)
        return event_id, json.dumps(event).encode() + b"\n"

    def _zipf(self, count: int) -> int:
        return int(count ** self._chance.random()) - 1


def run_case(case: Case, seconds: float, users: int, items: int, warm: int) -> dict[str, float]:
    """Starts the job on a warm log, appends at the rate, drains it and reads what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        events, output = Path(folder, "events"), Path(folder, "out")
        events.mkdir()
        population = Population(users, items, case.texts)
        log = events / "log.jsonl"
        log.write_bytes(b"".join(population.line()[1] for _ in range(warm)))
        launch = _LAUNCH.format(bundle=0.0 if case.every_bundle else MIN_BUNDLE_SECONDS)
        command = [sys.executable, "-c", launch, str(events), str(output)]
        if not case.model:
            command += ["--model", "none"]
        job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _await(lambda: _rows_read(output) >= warm, job)
            began = _cpu_seconds(job.pid)
            at_rest = _resident_mb(job.pid)
            appended = dict(_append(population, log, case.rate, seconds))
            grown = _resident_mb(job.pid) - at_rest
            used = (_cpu_seconds(job.pid) - began) / seconds
            stopped = time.time()
            job.send_signal(signal.SIGTERM)
            _, status, usage = os.wait4(job.pid, 0)
            job.returncode = os.waitstatus_to_exitcode(status)
            assert job.returncode == 0, f"the job ended with {job.returncode}"
        finally:
            if job.returncode is None:
                job.kill()
        return _measured(output, appended, stopped) | {
            "cpu": used,
            "rss": usage.ru_maxrss / 1024,
            "grown": grown,
        }


_LAUNCH: Final = """
import sys
from pipeline import follow
follow.MIN_BUNDLE_SECONDS = {bundle}
from pipeline.cli.main import main
sys.exit(main(["run", "--streaming", "--input", sys.argv[1], "--output", sys.argv[2], *sys.argv[3:],
    "--threads", "1", "--snapshot_every_seconds", "2", "--reindex_every_seconds", "10"]))
"""


def _await(reached, job: subprocess.Popen[bytes], seconds: float = 120) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "the job did not publish its first lists in time"
        assert job.poll() is None, f"the job ended with {job.returncode}"
        time.sleep(0.1)


def _rows_read(output: Path) -> float:
    if not list((output / "quality").glob("*.parquet")):
        return 0
    wanted = [("check", "==", "accounting.input")]
    return sum(pq.read_table(output / "quality", columns=["value"], filters=wanted)["value"].to_pylist())


def _append(population: Population, log: Path, rate: int, seconds: float) -> Iterator[tuple[str, float]]:
    """Appends line by line at even distances; yields when each was there."""
    began = time.monotonic()
    with log.open("ab", buffering=0) as file:
        for number in range(round(rate * seconds)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            event_id, line = population.line()
            file.write(line)
            yield event_id, time.time()


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return float("nan")


def _measured(output: Path, appended: dict[str, float], stopped: float) -> dict[str, float]:
    columns = ["emitted_time", "trigger_event_ids"]
    lists = pq.read_table(output / "recommendations", columns=columns).to_pylist()
    ages = sorted(
        row["emitted_time"].timestamp() - appended[event_id]
        for row in lists
        for event_id in row["trigger_event_ids"]
        if event_id in appended and row["emitted_time"].timestamp() <= stopped
    )
    assert ages, "no list came out while lines were appended"
    places = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    found = {name: ages[min(len(ages) - 1, int(place * len(ages)))] for name, place in places.items()}
    return found | {"measured": len(ages)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=15, help="of appending, a row (default: %(default)g)"
    )
    parser.add_argument("--rates", type=int, nargs="+", default=[50, 200], help="lines a second")
    parser.add_argument(
        "--text_rate", type=int, default=50, help="lines a second with a model, half of them texts"
    )
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--items", type=int, default=1_000)
    parser.add_argument("--warm", type=int, default=5_000, help="lines that are there at the start")
    parser.add_argument("--only_rates", action="store_true", help="without the rows with a model and at once")
    args = parser.parse_args()
    cases = [Case("behaviour", rate, 0.0) for rate in args.rates]
    if not args.only_rates:
        cases.append(Case("half texts, scored", args.text_rate, 0.5, model=True))
        cases.append(Case("every bundle at once", args.rates[-1], 0.0, every_bundle=True))
    columns = ("lines/s", "p50 s", "p95 s", "p99 s", "events", "CPU", "RSS MB", "grown")
    print(f"{'feedback':<22}" + "".join(f"{column:>8}" for column in columns))
    for case in cases:
        found = run_case(case, args.seconds, args.users, args.items, args.warm)
        times = "".join(f"{found[name]:>8.2f}" for name in ("p50", "p95", "p99"))
        rest = f"{found['measured']:>8.0f}{found['cpu']:>8.0%}{found['rss']:>8.0f}{found['grown']:>8.0f}"
        print(f"{case.name:<22}{case.rate:>8}{times}{rest}", flush=True)


if __name__ == "__main__":
    main()
