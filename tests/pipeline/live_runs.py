"""Endless runs for tests, and the oracle that they are held to: the pure core over the same log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from models.pane import apply_pane, copy_of
from models.ranking.config import RankingConfig
from models.ranking.index import ItemIndex
from models.ranking.ranker import rank
from models.records import FeedbackEvent, ScoredFeedback
from models.state import StateConfig, UserState
from models.views import ViewPolicy, view_user
from pipeline.config import JobConfig
from pipeline.live import LiveReport, run_live
from pipeline.live_state import LiveState, live_state
from pipeline.output_folder import new_run_id
from pipeline.reading import read_feedback
from tests.pipeline.feedback_log import Event, table
from transforms.rank_top_k import published_statistics

K = 5
Row = tuple[str, int, str, float, list[dict[str, Any]]]


def await_that(reached: Callable[[], object], seconds: float = 60) -> None:
    """Waits until it is so; fails when it is not in time."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


def append(path: Path, *events: Event | str) -> None:
    """Lines at the end of a file; a text goes there as it is."""
    with path.open("a") as file:
        file.writelines(event if isinstance(event, str) else json.dumps(event) + "\n" for event in events)


def current(output: Path) -> list[Row]:
    """The current lists without versions and times; none where there is no table yet."""
    if not list((output / "recommendations_latest").glob("*.parquet")):
        return []
    return [
        (row["user_id"], row["rank"], row["item_id"], row["score"], row["reasons"])
        for row in table(output, "recommendations_latest")
    ]


def pure_lists(index: Path, *inputs: Path) -> list[Row]:
    """What the lists must be: every event of the log joined at once, ranked on a given index."""
    copies = defaultdict(list)
    for event in read_feedback([str(path) for path in inputs]):
        if isinstance(event, FeedbackEvent):
            copies[event.user_id].append(copy_of(ScoredFeedback(event), 0))
    opened, policy, config = ItemIndex.open(index), ViewPolicy(), StateConfig()
    rows: list[Row] = []
    for user_id in sorted(copies):
        state = UserState()
        apply_pane(state, copies[user_id], config, policy)
        clock = max(opened.clock, max(state.events)[0])
        view = view_user(user_id, state, policy, clock, config.ttl_micros, published_statistics(opened))
        (made,) = rank([view], opened, RankingConfig(), clock, K)
        for item in made:
            reasons = [
                {
                    "code": r.code,
                    "event_ids": list(r.event_ids),
                    "contribution": r.contribution,
                    "text": r.text,
                }
                for r in item.reasons
            ]
            rows.append((user_id, item.rank, item.item_id, item.score, reasons))
    return rows


@contextmanager
def live_run(folder: Path, output: Path, **config: Any) -> Iterator[tuple[LiveState, list[LiveReport]]]:
    """An endless run in a thread of this process, drained at the end; then its report is in the list."""
    given: dict[str, Any] = {"k": K, "model": "none", "snapshot_every_seconds": 0.2} | config
    run_id, reports, errors = new_run_id(), [], []
    state = live_state(run_id)

    def work() -> None:
        try:
            job = JobConfig(inputs=(str(folder),), output=str(output), **given)
            reports.append(run_live(job, PipelineOptions(["--runner=FnApiRunner"]), run_id))
        except BaseException as error:
            errors.append(error)
            state.started.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield state, reports
    finally:
        state.stop.set()
        thread.join(90)
        assert not thread.is_alive(), "the run did not drain in time"
    if errors:
        raise errors[0]


def command(folder: Path, output: Path, *flags: str) -> list[str]:
    """`livelist run --streaming` in a process of its own."""
    start = "import sys; from pipeline.cli.main import main; sys.exit(main(sys.argv[1:]))"
    job = ["run", "--streaming", "--input", str(folder), "--output", str(output), "--k", str(K)]
    few = ["--model", "none", "--snapshot_every_seconds", "0.3"]
    return [sys.executable, "-c", start, *job, *few, *flags]


def launched(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """The process, in a group of its own, so that a signal to the group reaches all that it started."""
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def signalled(job: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    """Exit code, standard output and standard error after a signal to the whole group, as Ctrl-C sends it."""
    os.killpg(job.pid, number)
    out, err = job.communicate(timeout=90)
    return job.returncode, out, err
