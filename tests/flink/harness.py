"""A real cluster for tests and the demo: a pinned index, a log that comes in pieces, faults, the oracle."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models.encoder.serving import shared_pool
from models.errors import DeploymentError
from models.ranking.index import read_pointer
from models.records import CONTROL_KINDS, FeedbackEvent
from pipeline.cluster.cluster import ClusterPlan, down, up
from pipeline.cluster.jars import fetch, find_java
from pipeline.cluster.keeper import RUNNING
from pipeline.cluster.processes import saved
from pipeline.cluster.rest import FlinkRest
from pipeline.cluster.settings import ClusterSettings
from pipeline.config import JobConfig
from pipeline.flink.plan import FlinkPlan
from pipeline.flink.status import JobStatus, job_status
from pipeline.flink.submit import FlinkJob, drain, job_folder, submit
from pipeline.inputs.finding import followed_files
from pipeline.inputs.reading import read_feedback
from pipeline.job import scoring_step
from pipeline.tables.reader import read_accounting
from tests.oracle import Scores, current_lists, expected_lists
from tests.pipeline.connectors.services import Channel, PubsubChannel
from tests.pipeline.live.feedback_log import Event, run, shop_log

K = 5
_POLL_SECONDS = 0.2


def need_flink() -> None:
    """Fetches it; skips the test with the reason where it cannot be had."""
    try:
        find_java()
        fetch(Path("~/.cache/livelist/flink").expanduser(), print)
    except DeploymentError as error:
        pytest.skip(f"Flink cannot be had here: {error}")


@contextmanager
def cluster(folder: Path, say: Callable[[str], None] = print, **plan: object) -> Iterator[ClusterSettings]:
    """A cluster that ends with the block, and with this process however that ends."""
    given: dict[str, object] = {"rest_port": 0, "heap_mb": 384, "checkpoint_seconds": 2.0, "nice": 10} | plan
    settings = up(ClusterPlan(folder, parent=os.getpid(), **given), say)  # type: ignore[arg-type]
    try:
        yield settings
    finally:
        down(folder)


@dataclass
class Scenario:
    """One job on a log of its own, ranked on an index that was pinned before."""

    settings: ClusterSettings
    folder: Path
    name: str
    events: list[Event]
    plan: dict[str, object] = field(default_factory=dict)
    channel: Channel | None = None  # the job pulls from it; the files are the oracle's alone
    sinks: tuple[str, ...] = ()
    options: dict[str, object] = field(default_factory=dict)  # of the job
    scorer: Scores | None = None  # the oracle's
    written: int = 0

    def __post_init__(self) -> None:
        self.inputs, self.output = self.folder / "in", self.folder / "out"
        self.inputs.mkdir(parents=True)
        pinned = self.folder / "pinned"
        log = self.folder / "all.jsonl"
        log.write_text("".join(json.dumps(event) + "\n" for event in self.events))
        run(pinned, str(log), model="none")
        self.output.mkdir()
        shutil.copytree(pinned / "index", self.output / "index")

    @property
    def config(self) -> JobConfig:
        """The index stays as it is; snapshots come fast."""
        given: dict[str, object] = {"k": K, "model": "none", "snapshot_every_seconds": 1.0} | self.options
        return JobConfig(
            inputs=(self.channel.uri if self.channel else str(self.inputs),),
            output=str(self.output),
            sinks=self.sinks,
            reindex_every_seconds=0,
            **given,  # type: ignore[arg-type]
        )

    def start(self, savepoint: str = "", **plan: object) -> FlinkJob:
        """Submits the job, or resumes it."""
        given = FlinkPlan(name=self.name, **(self.plan | plan))  # type: ignore[arg-type]
        return submit(self.config, self.settings, given, savepoint=savepoint)

    def write(self, share: float) -> None:
        """Appends events, up to a share of the log, to one of three files; sends them besides."""
        upto = round(len(self.events) * share)
        if self.channel is not None:
            self.channel.publish([json.dumps(event).encode() for event in self.events[self.written : upto]])
        for number in range(self.written, upto):
            with (self.inputs / f"part{number % 3}.jsonl").open("a") as file:
                file.write(json.dumps(self.events[number]) + "\n")
        self.written = upto

    def status(self) -> JobStatus:
        """How the job is."""
        return job_status(self.settings, self.name)

    def await_rows(self, more_than: int = 0, seconds: float = 600) -> int:
        """Waits until the history has more lists than that; returns how many."""
        deadline = time.monotonic() + seconds
        while (rows := self.rows("recommendations")) <= more_than:
            assert time.monotonic() < deadline, f"no new list in {seconds:.0f} s: {self.status().health}"
            time.sleep(_POLL_SECONDS)
        return rows

    def rows(self, table: str) -> int:
        """How many rows a table has now."""
        return sum(pq.read_metadata(path).num_rows for path in (self.output / table).glob("*.parquet"))

    def await_checkpoint(self, seconds: float = 600) -> None:
        """Waits for a checkpoint that is completed after this call; Flink may be away meanwhile."""
        begun = time.time()
        deadline = time.monotonic() + seconds
        while (made := self._checkpoint_at()) <= begun:
            assert time.monotonic() < deadline, f"no checkpoint since {begun}, the last at {made}"
            time.sleep(_POLL_SECONDS)

    def _checkpoint_at(self) -> float:
        try:
            return self.status().facts.checkpoint_at or 0.0
        except DeploymentError:  # no JobManager answers
            return 0.0

    def await_accounted(self, seconds: float = 600) -> None:
        """Waits until everything that was written stands somewhere."""
        deadline = time.monotonic() + seconds
        while missing := self.unaccounted():
            assert time.monotonic() < deadline, f"missing: {missing[:10]}; {self.status().health}"
            time.sleep(1)

    def finish(self, seconds: float = 600) -> None:
        """Drains the job; the tables are whole then."""
        drain(self.settings, self.name, seconds)

    def read_as_the_job(self) -> None:
        """From now on the oracle reads texts with the job's model."""
        serving = scoring_step(self.config).serving()
        assert serving is not None
        self.scorer = shared_pool(serving).scorer

    def differences(self) -> list[str]:
        """Rows of the current lists that are not the oracle's, and the other way round."""
        index = read_pointer(self.output)
        assert index is not None
        expected = {repr(row) for row in expected_lists(index, [self.inputs], K, self.scorer)}
        found = {repr(row) for row in current_lists(self.output)}
        return [f"+ {row}" for row in sorted(found - expected)] + [
            f"- {row}" for row in sorted(expected - found)
        ]

    def unaccounted(self) -> list[str]:
        """Distinct positions that stand nowhere: neither accepted, nor rejected, nor repeated."""
        told = {
            position
            for table in ("scored_feedback", "dead_letters", "quarantine")
            for position in self.positions(table)
        }
        rows = pq.read_table(self.output / "scored_feedback", columns=["event_id", "user_id"]).to_pylist()
        accepted = {(row["user_id"], row["event_id"]) for row in rows}
        read = list(read_feedback(followed_files([str(self.inputs)])))
        events = [event for event in read if isinstance(event, FeedbackEvent)]
        said = {_content(event) for event in events if (event.user_id, event.event_id) in accepted}
        # What was retracted before it came has no row: it is accepted, and counts for nothing.
        accepted |= {(event.user_id, event.target_event_id) for event in events if event.target_event_id}
        for event in events:
            repeated = (event.user_id, event.event_id) in accepted or (event.text and _content(event) in said)
            # Rows of `scored_feedback` are what counts: what commands the state has none.
            if repeated or event.kind in CONTROL_KINDS:
                told.add(event.source_position)
        return [event.source_position for event in read if event.source_position not in told]

    def repeats(self) -> list[str]:
        """Rows that stand twice in tables where a row stands once, whatever was killed."""
        keys = {
            "scored_feedback": ["user_id", "event_id", "source_position"],
            "dead_letters": ["source_position"],
            "quarantine": ["source_position"],
            "trends": ["window_start", "subject_kind", "subject"],
            "recommendations_latest": ["user_id", "rank"],
        }
        told = []
        for table, columns in keys.items():
            rows = pq.read_table(self.output / table, columns=columns).to_pylist()
            counted = Counter(tuple(row.values()) for row in rows)
            told += [f"{table}: {key}" for key, times in counted.items() if times > 1]
        return told

    def assert_books_close(self) -> None:
        """Every message counts once, in one account; a subscription counts those too that it gave again."""
        read = sum(1 for _ in read_feedback(followed_files([str(self.inputs)])))
        books = read_accounting(str(self.output))
        assert books.unaccounted == 0, books.as_line()
        again = books.input - read
        assert again == 0 or (again > 0 and isinstance(self.channel, PubsubChannel)), books.as_line()
        assert books.total("dead_lettered.") == len(self.positions("dead_letters")), books.as_line()

    def positions(self, table: str) -> list[str]:
        """Source positions of a table."""
        found: list[str] = pq.read_table(self.output / table, columns=["source_position"])[
            "source_position"
        ].to_pylist()
        return found


def _content(event: FeedbackEvent) -> tuple[str, str, str | None, str | None]:
    return event.user_id, event.kind, event.item_id, event.text


def hard_log(seed: int = 7, users: int = 20) -> list[Event]:
    """The shop's log with 30% of it delivered twice, hours out of order, and a few lines that are none."""
    chance = random.Random(seed)
    events = shop_log(seed, users)
    events += chance.sample(events, round(len(events) * 0.3))
    # Ten minutes lie between two events of the log: twelve places are two hours.
    order = sorted(range(len(events)), key=lambda place: place + chance.uniform(0, 36))
    broken: Event = {"event_id": "no-user", "kind": "view", "event_time": 1_700_000_000, "item_id": "x"}
    return [*(events[place] for place in order), broken]


def kill(settings: ClusterSettings, name: str) -> int:
    """SIGKILLs a process of the cluster by name; returns its pid."""
    process = saved(settings.root / RUNNING)[name]
    assert process.alive
    os.kill(process.pid, signal.SIGKILL)
    return process.pid


def busy_task_manager(settings: ClusterSettings) -> str:
    """The name of one that runs a part of a job."""
    for known in FlinkRest(settings.rest).task_managers():
        if known["freeSlots"] < known["slotsNumber"]:
            return str(known["id"])
    raise AssertionError("no task manager has work")


def python_workers(settings: ClusterSettings) -> list[int]:
    """The pids of the Python workers, oldest first: children of the pool, of jobs that have ended too."""
    pool = saved(settings.root / RUNNING)["worker-pool"].pid
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            told = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(told[1]) == pool:
            found.append((int(told[19]), int(entry.name)))
    return [pid for _, pid in sorted(found)]


def kill_python_worker(settings: ClusterSettings) -> None:
    """SIGKILLs one that serves the newest job."""
    workers = python_workers(settings)
    assert workers, "there is no Python worker"
    os.kill(workers[-1], signal.SIGKILL)


def assert_equals_oracle(scenario: Scenario) -> None:
    """The lists are the oracle's, nothing that was read is missing or told twice, and the books close."""
    different = scenario.differences()
    assert not different, "\n".join(different[:10])
    missing = scenario.unaccounted()
    assert not missing, f"{len(missing)} positions stand nowhere: {missing[:10]}"
    repeats = scenario.repeats()
    assert not repeats, f"{len(repeats)} rows stand twice: {repeats[:10]}"
    scenario.assert_books_close()


def leftovers(pids: Sequence[int]) -> list[int]:
    """Those that still run."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


__all__ = [
    "Scenario",
    "assert_equals_oracle",
    "busy_task_manager",
    "cluster",
    "hard_log",
    "job_folder",
    "kill",
    "kill_python_worker",
    "leftovers",
]
