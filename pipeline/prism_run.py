"""The endless job on Prism: an engine in Go on this machine, which keeps time, and states while it lives.

It forgets all when it ends, so every start reads the files from their beginning, and what is pulled from a
broker, which would be acknowledged behind a state that dies, is refused. Tables and index are kept by the
steward of Flink's jobs, here a thread.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, PrismRunnerOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from models.accounting import Accounting
from models.errors import DeploymentError, UsageError
from pipeline.cluster.checks import Check
from pipeline.config import JobConfig
from pipeline.connectors.uris import redacted
from pipeline.endless import sorted_inputs
from pipeline.flags.engines import Engine, changed_fields, refuse_meaningless
from pipeline.flink.books import close_books
from pipeline.flink.job import build_flink, check_flink
from pipeline.flink.source import DRAIN
from pipeline.flink.steward import CONFIG, Steward, folding_of, read_beat
from pipeline.job import scorer_of
from pipeline.tables.output_folder import local_path, new_run_id

_INSTALL: Final = f"go install github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam.version.__version__}"
_POLL_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 0.2
_READY_SECONDS: Final = 600.0


def check_prism(config: JobConfig) -> None:
    """Raises where a job cannot be endless on Prism, with what to do instead."""
    if pulled := sorted_inputs(config)[1]:
        raise UsageError(
            f"--input {redacted(pulled[0])}: Prism's states end with it, and what it has acknowledged would "
            "be lost; leave --runner out"
        )
    refuse_meaningless(changed_fields(config), Engine.PRISM)
    check_flink(config)


def prism_found(location: str | None) -> str | None:
    """The binary: as it was given, on the path, or where `go install` puts it."""
    gopath = os.environ.get("GOPATH") or str(Path.home() / "go")
    return location or shutil.which("prism", path=f"{os.environ.get('PATH', '')}:{gopath}/bin")


def take_binary(options: PipelineOptions) -> bool:
    """Has the runner use the binary that is here, for Beam would fetch one; tells whether there is any."""
    prism = options.view_as(PrismRunnerOptions)
    prism.prism_location = prism_found(prism.prism_location)
    return prism.prism_location is not None


def prism_checks() -> Iterator[Check]:
    """What this machine would need."""
    found = prism_found(None)
    yield Check("prism", found is not None, found or "not here", _INSTALL)


def run_prism(config: JobConfig, options: PipelineOptions, asked: threading.Event) -> Accounting:
    """Runs until `asked` is set, then drains: what is there is read, what was held back comes out.

    Returns the books, which are in `quality` too.

    Raises LivelistError before anything starts where the job is not sound, and DeploymentError without a
    binary, or when the engine gives up.
    """
    check_prism(config)
    if not take_binary(options):
        raise DeploymentError(
            f"PrismRunner: its program is not here; {_INSTALL}, or give its path or URL as --prism_location"
        )
    score_feedback = scorer_of(config)
    run_id = new_run_id()
    with tempfile.TemporaryDirectory(prefix="livelist-prism-") as name:
        folder = Path(name)
        (folder / CONFIG).write_bytes(pickle.dumps((run_id, config)))
        with _tended(folder) as tending:
            pipeline = beam.Pipeline("PrismRunner", options)
            build_flink(pipeline, config, score_feedback, run_id, folder, _POLL_SECONDS, spread=False)
            _run_until(pipeline.run(), asked, tending, folder / DRAIN)
        books = close_books(folder, local_path(config.output), run_id)
        folding_of(folder).fold()
        return books


@contextmanager
def _tended(folder: Path) -> Iterator[threading.Thread]:
    """The steward beside the job: the index is there when this begins, the tables are whole at its end."""
    steward = Steward(folder)
    failed: list[BaseException] = []

    def tend() -> None:
        try:
            steward.tend()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=tend, name="steward", daemon=True)
    thread.start()
    try:
        _await_ready(folder, thread)
        if not failed:
            yield thread
    finally:
        steward.stop.set()
        thread.join()
        if failed:
            raise failed[0]


def _await_ready(folder: Path, steward: threading.Thread) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while steward.is_alive() and not read_beat(folder).get("ready"):
        if time.monotonic() > deadline:
            raise DeploymentError(f"the item index is not learned in {_READY_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)


def _run_until(
    result: PipelineResult, asked: threading.Event, steward: threading.Thread, drain: Path
) -> None:
    """Waits for the end of the job, and asks for it when that is asked for, or nobody tends it."""
    ended: list[str | BaseException] = []

    def wait() -> None:
        try:
            ended.append(result.wait_until_finish())
        except BaseException as error:
            ended.append(error)

    waiting = threading.Thread(target=wait, name="prism", daemon=True)
    waiting.start()
    while waiting.is_alive():
        if (asked.is_set() or not steward.is_alive()) and not drain.exists():
            drain.touch()
        waiting.join(_LOOK_SECONDS)
    (state,) = ended
    if state != PipelineState.DONE:
        raise DeploymentError(f"Prism ended the job: {state}")
