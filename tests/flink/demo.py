"""`make flink-demo`: a real cluster, a job, a killed task manager, and the tables held to the oracle.

Ends with 1 where a row differs, and leaves no process behind, however it ends.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from models.errors import LivelistError
from pipeline.cli.console import quiet_libraries
from tests.flink.harness import K, Scenario, busy_task_manager, cluster, hard_log, kill


@contextmanager
def step(what: str) -> Iterator[None]:
    """Says what is done, and how long it took."""
    print(f"{what} ...", end=" ", flush=True)
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:.1f} s", flush=True)


def demo(folder: Path) -> int:
    """Plays it once; returns the number of rows that differ."""
    shutil.rmtree(folder, ignore_errors=True)
    events = hard_log(users=40)
    began = time.monotonic()
    running = cluster(folder / "cluster", say=lambda text: None)
    with step("cluster up: ZooKeeper, JobManager, 2 task managers, Python workers, job server"):
        settings = running.__enter__()
    try:
        with step(f"an index pinned, learned from {len(events):,} events by a bounded run"):
            scenario = Scenario(settings, folder / "job", "demo", events, {"parallelism": 2})
        with step("job submitted, first lists written"):
            scenario.write(0.4)
            scenario.start()
            scenario.await_rows()
        with step("a checkpoint completed"):
            scenario.await_checkpoint()
        victim = busy_task_manager(settings)
        with step(f"{victim} killed (pid {kill(settings, victim)}), more events sent, job restored"):
            before = scenario.rows("recommendations")
            scenario.write(0.8)
            scenario.await_checkpoint()
            scenario.await_rows(before)
        with step("the rest of the events sent, job drained"):
            scenario.write(1.0)
            scenario.finish()
        with step("tables compared with the oracle"):
            different, missing = scenario.differences(), scenario.unaccounted()
    finally:
        with step("everything stopped"):
            running.__exit__(None, None, None)
    _tell(scenario, different, missing, time.monotonic() - began)
    return len(different) + len(missing)


def _tell(scenario: Scenario, different: list[str], missing: list[str], seconds: float) -> None:
    for line in [*different[:10], *(f"not accounted for: {position}" for position in missing[:10])]:
        print(line)
    latest, history = scenario.rows("recommendations_latest"), scenario.rows("recommendations")
    print(
        f"{scenario.written:,} events, {history:,} lists in the history, {latest:,} rows of current lists of "
        f"{K} places: {len(different)} differ from the oracle, {len(missing)} events are missing; "
        f"{seconds:.0f} s"
    )


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """The exit code."""
    quiet_libraries()
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        return 1 if demo(Path("out/flink-demo")) else 0
    except KeyboardInterrupt:
        print("\ninterrupted; everything is stopped", file=sys.stderr)
        return 130
    except LivelistError as error:
        print(f"\nlivelist: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
