"""Endless runs for tests, in this process or in one of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from models.ranking.index import read_pointer
from pipeline.config import JobConfig
from pipeline.connectors.base import PullSource, TableSink
from pipeline.connectors.registry import make_sink, make_source
from pipeline.live.run import LiveReport, LiveRun, run_live
from pipeline.live.state import LiveState, live_state
from pipeline.tables.output_folder import new_run_id
from tests.oracle import current_lists
from tests.pipeline.live.feedback_log import Event

K = 5


def await_that(reached: Callable[[], object], seconds: float = 180) -> None:
    """Waits until it is so; fails when it is not in time."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


def append(path: Path, *events: Event | str) -> None:
    """Lines at the end of a file; a text goes there as it is."""
    with path.open("a") as file:
        file.writelines(event if isinstance(event, str) else json.dumps(event) + "\n" for event in events)


@contextmanager
def live_run(
    source: Path | str,
    output: Path,
    open_source: Callable[[str], PullSource] = make_source,
    watch: Callable[[LiveRun], None] | None = None,
    open_sink: Callable[[str], TableSink] = make_sink,
    **config: Any,
) -> Iterator[tuple[LiveState, list[LiveReport]]]:
    """An endless run in a thread of this process, drained at the end; then its report is in the list."""
    given: dict[str, Any] = {"k": K, "model": "none", "snapshot_every_seconds": 0.2} | config
    run_id, reports, errors = new_run_id(), [], []
    state = live_state(run_id)

    def work() -> None:
        try:
            job = JobConfig(inputs=(str(source),), output=str(output), **given)
            options = PipelineOptions(["--runner=FnApiRunner"])
            reports.append(run_live(job, options, run_id, watch, open_source, open_sink))
        except BaseException as error:
            errors.append(error)
            state.started.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield state, reports
    finally:
        state.stop.set()
        thread.join(240)
        assert not thread.is_alive(), "the run did not drain in time"
    if errors:
        raise errors[0]


def command(folder: Path, output: Path, *flags: str) -> list[str]:
    """`livelist run --streaming` in a process of its own."""
    start = "import sys; from pipeline.cli.main import main; sys.exit(main(sys.argv[1:]))"
    job = ["run", "--streaming", "--input", str(folder), "--output", str(output), "--k", str(K)]
    few = ["--model", "none"] if "--model" not in flags else []
    few += ["--snapshot_every_seconds", "0.3"]
    return [sys.executable, "-c", start, *job, *few, *flags]


def launched(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """The process, in a group of its own, so that a signal to the group reaches all that it started."""
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def signalled(job: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    """Exit code, standard output and standard error after a signal to the whole group, as Ctrl-C sends it."""
    os.killpg(job.pid, number)
    out, err = job.communicate(timeout=240)
    return job.returncode, out, err


def pinned(learned: Path, output: Path) -> Path:
    """The same index under another output; returns its folder."""
    shutil.copytree(learned / "index", output / "index")
    index = read_pointer(output)
    assert index is not None
    return index


def lines_in(folder: Path) -> int:
    """Of all files of a folder."""
    return sum(len(path.read_text().splitlines()) for path in folder.iterdir())


def has_read(state: LiveState, records: int) -> bool:
    """Whether so many records are in the books of the bundles that are done."""
    return state.books()["input"] == records


def users_of(output: Path) -> set[str]:
    """Those who have a list."""
    return {row[0] for row in current_lists(output)}
