"""What a job on a Flink cluster needs beside it: its item index learned anew, its shards folded into tables
with their trends and alerts, its metrics.

    python -m pipeline.flink.steward JOB_FOLDER [METRICS_HOST METRICS_PORT]

The keeper of the cluster runs it as long as the job is there, and starts it again when it dies. The
job itself does not need it to go on: lists wait on disk, as shards, until it is back.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from models.errors import LivelistError
from models.records import MICROS_PER_SECOND
from models.tables import AlertRow
from pipeline import heap
from pipeline.cluster.processes import end_with_parent
from pipeline.config import JobConfig
from pipeline.flink.books import BOOKS
from pipeline.flink.folding import Folding, forget_books
from pipeline.flink.index import IndexLearner, learns_from_tables
from pipeline.flink.lag import all_is_read
from pipeline.flink.published import Published
from pipeline.flink.source import forget_progress
from pipeline.tables.files import TableLimits, publish_shards
from pipeline.tables.output_folder import (
    check_if_exists,
    local_path,
    prepare_local,
    settle,
    staging_path,
    stream_path,
)
from pipeline.tables.sinks import prepare_output
from pipeline.tables.snapshots import fold_streams

CONFIG: Final = "config.pickle"
BEAT: Final = "steward.json"
#: Holds the run that the tables were last prepared for.
ADOPTED: Final = "ADOPTED"
_BEAT_SECONDS: Final = 1.0
_LOG: Final = logging.getLogger(__name__)


class Steward:
    """One job's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with (folder / CONFIG).open("rb") as file:
            self._run_id, config = pickle.load(file)
        assert isinstance(config, JobConfig)
        self.config: JobConfig = config
        self._output = local_path(self.config.output)
        self.stop = threading.Event()
        self._beat: dict[str, object] = {"ready": False, "snapshots": 0, "error": "", "snapshot_time": None}
        self._last_shard: float | None = None
        self._alerts: list[AlertRow] = []  # that wait for a snapshot
        self._caught_up = False
        self.folding: Folding | None = None
        self.published: Published | None = None
        self.learner: IndexLearner | None = None
        self.snapshot_time: float | None = None  # seconds since 1970
        self.failed_snapshots = 0

    def tend(self) -> None:
        """Until `stop` is set. What cannot go on is told in the beat, and raised."""
        try:
            with ExitStack() as running:
                self._adopt(running)
                self.folding = _folding(self._folder, self.config, self._run_id)
                self.learner = learner = IndexLearner(self.config, self._folder / CONFIG, self.stop)
                learner.publish_first()
                self.published = Published(self.config)
                self._tell(ready=True)
                thread = threading.Thread(target=self._learn, args=(learner,), name="index", daemon=True)
                thread.start()
                self._run(learner)
                thread.join()
        except Exception as error:
            self._tell(error=str(error) if isinstance(error, LivelistError) else repr(error), ready=False)
            raise

    def _learn(self, learner: IndexLearner) -> None:
        while not self.stop.wait(_BEAT_SECONDS):
            try:
                learner.learn_if_due()
            except Exception as error:  # whatever it is, the job goes on with the index that it has
                _LOG.error("the item index was not learned anew: %r", error)

    def _look(self) -> None:
        assert self.published is not None
        try:
            self._alerts += self.published.look()
        except Exception as error:  # what cannot be looked at is no reason to leave the tables alone
            _LOG.error("the published index and model were not looked at: %r", error)

    def _note_items(self, learner: IndexLearner) -> None:
        assert self.folding is not None
        try:
            learner.note(self.folding.items())
        except Exception as error:  # the next snapshot meets the same, and tells
            _LOG.error("new items were not looked for: %r", error)

    def _adopt(self, running: ExitStack) -> None:
        """The right to write; the tables are begun anew only at a job's first start."""
        adopted = self._folder / ADOPTED
        before = adopted.read_text() if adopted.exists() else ""
        if before == self._run_id:
            # This steward died and the job went on: `prepare_output` would fold, and delete, what it writes.
            running.enter_context(prepare_local(self._output, self._run_id, "append"))
            return
        if not before:
            forget_books(self._folder)
            forget_progress(self._folder)
        mode = "append" if before else check_if_exists(self.config.if_exists)
        if before:
            running.enter_context(prepare_local(self._output, self._run_id, mode))
            # What is left of a run that was killed.
            _folding(self._folder, self.config, before).fold(caught_up=False)
            fold_streams(self._output)
        else:
            running.enter_context(prepare_output(self.config.output, self._run_id, mode))
        start = f"{self._run_id}-start"
        try:
            publish_shards(self._output, self._run_id, mode, [], TableLimits(), start)
        finally:
            settle(staging_path(self._output, start))
        adopted.write_text(self._run_id)

    def _run(self, learner: IndexLearner) -> None:
        due = time.monotonic() + self.config.snapshot_every_seconds
        while not self.stop.wait(min(_BEAT_SECONDS, self.config.snapshot_every_seconds)):
            self._look()
            if not learns_from_tables(self.config):  # else they are not there yet
                self._note_items(learner)
            if time.monotonic() >= due:
                self._snapshot()
                self._note_items(learner)
                due = time.monotonic() + self.config.snapshot_every_seconds
            self._tell(rebuilds=learner.rebuilds, failed_rebuilds=learner.failures)
        self._snapshot()

    def _snapshot(self) -> None:
        assert self.folding is not None
        try:
            self._note_shards()
            self._caught_up = self._caught_up or all_is_read(self.config.inputs, self._folder)
            alerts, self._alerts = self._alerts, []
            self.folding.fold(alerts, self._caught_up)
            self.snapshot_time = time.time()
            self._tell(error="", snapshots=self.folding.snapshots, snapshot_time=self.snapshot_time)
            heap.give_back()
        except Exception as error:  # the shards are there for the next one
            self.failed_snapshots += 1
            _LOG.error("the tables are not refreshed: %s", error)
            self._tell(error=f"the tables are not refreshed: {error}")

    def _note_shards(self) -> None:
        """When the job last wrote something; its books too."""
        shards = stream_path(self._output, self._run_id).glob("*/*.shard")
        for path in (*shards, self._folder / BOOKS):
            with suppress(FileNotFoundError):
                self._last_shard = max(self._last_shard or 0.0, path.stat().st_mtime)

    def _tell(self, **said: object) -> None:
        self._note_shards()
        self._beat |= {"time": time.time(), "last_shard": self._last_shard} | said
        partial = self._folder / f".{BEAT}"
        partial.write_text(json.dumps(self._beat))
        os.replace(partial, self._folder / BEAT)


def folding_of(folder: Path) -> Folding:
    """Of a job's folder."""
    run_id, config = pickle.loads((folder / CONFIG).read_bytes())
    assert isinstance(config, JobConfig)
    return _folding(folder, config, run_id)


def _folding(folder: Path, config: JobConfig, run_id: str) -> Folding:
    window = config.trend_window_seconds * MICROS_PER_SECOND
    return Folding(folder, local_path(config.output), run_id, window)


def read_beat(folder: Path) -> dict[str, object]:
    """What the steward told last; nothing where it has not begun."""
    try:
        told: dict[str, object] = json.loads((folder / BEAT).read_text())
        return told
    except (OSError, ValueError):
        return {}


def main(folder: Path, metrics: Sequence[str] = ()) -> int:
    """Tends until SIGTERM; `metrics` are the host and the port where they are served."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    end_with_parent()
    heap.keep_small()
    steward = Steward(folder)

    def stop(number: int, frame: FrameType | None) -> None:
        steward.stop.set()

    signal.signal(signal.SIGTERM, stop)
    try:
        with ExitStack() as serving:
            if metrics:
                from pipeline.flink.metrics import serve  # which needs what this module has

                serving.enter_context(serve(steward, folder, *metrics))
            steward.tend()
    except LivelistError as error:
        _LOG.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
