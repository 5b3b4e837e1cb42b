"""The metrics of a job on a cluster, by the names of a run on one machine as far as it knows them.

Its steward serves them, from Flink's REST interface, the books, the rows that it folds and what is
published. The job goes on without it; then they are not served.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from models.errors import LivelistError
from models.ranking.index import read_pointer
from pipeline.cluster.settings import load_settings
from pipeline.flink.books import read_books
from pipeline.flink.status import JobStatus, job_status
from pipeline.flink.steward import Steward
from pipeline.live.metrics import Metric, info, of_ages, one, rendered, resident_bytes, served_metrics
from pipeline.tables.output_folder import local_path

_LOOK_SECONDS: Final = 5.0
_STATES: Final = ("ok", "starting", "stalled", "failing", "lost", "ended")


@contextmanager
def serve(steward: Steward, folder: Path, host: str, port: str) -> Iterator[None]:
    """Until the end of the block. Raises UsageError where the port is taken."""
    settings, name = load_settings(folder.parents[1]), folder.name
    newest: list[JobStatus | None] = [None]

    def look() -> None:
        """A broker that is away takes its time; who scrapes does not wait for it."""
        while not steward.stop.is_set():
            try:
                newest[0] = job_status(settings, name)
            except LivelistError:  # Flink does not answer, or the job is being started
                newest[0] = None
            steward.stop.wait(_LOOK_SECONDS)

    threading.Thread(target=look, name="status", daemon=True).start()
    with served_metrics(int(port), lambda: rendered(metrics_of(steward, folder, newest[0])), host):
        yield


def metrics_of(steward: Steward, folder: Path, status: JobStatus | None) -> Iterator[Metric]:
    """What is known at this moment; without a status nothing of Flink's."""
    yield from _of_books(folder)
    if (folding := steward.folding) is not None:
        yield one("livelist_lists_total", "counter", "Lists that this steward has seen.", folding.lists)
        yield Metric(
            "livelist_event_freshness_seconds",
            "histogram",
            "From the time of an event to the list that takes it in; not of lists that show nothing new.",
            [*of_ages("behaviour", folding.ages.behaviour), *of_ages("words", folding.ages.words)],
        )
        yield one("livelist_snapshots_total", "counter", "Tables published.", folding.snapshots)
    yield one(
        "livelist_snapshot_failures_total", "counter", "Tables not published.", steward.failed_snapshots
    )
    age = time.time() - steward.snapshot_time if steward.snapshot_time else float("nan")
    yield one("livelist_tables_age_seconds", "gauge", "Since the tables were published.", age)
    yield from _of_versions(steward)
    if (learner := steward.learner) is not None:
        yield one("livelist_index_rebuilds_total", "counter", "Indexes built.", learner.rebuilds)
        yield one("livelist_index_failures_total", "counter", "Indexes not built.", learner.failures)
    if status is not None:
        yield from _of_flink(status)
    yield one("livelist_resident_bytes", "gauge", "Memory of the steward.", resident_bytes())


def _of_books(folder: Path) -> Iterator[Metric]:
    books = read_books(folder)
    yield Metric(
        "livelist_records_total",
        "counter",
        "Records by what became of them; the account input is all of them.",
        [({"account": code}, count) for code, count in sorted(books.items())],
    )
    scored, unscored = books["accepted.scored"], books["accepted.unscored"]
    yield one("livelist_texts_scored_total", "counter", "Accepted texts with a score.", scored)
    told = "Accepted texts without a score: it is to come, cannot be made, or the event was taken back first."
    yield one("livelist_texts_unscored", "gauge", told, unscored)


def _of_versions(steward: Steward) -> Iterator[Metric]:
    index = read_pointer(local_path(steward.config.output))
    version = "" if index is None else index.name
    yield info("livelist_index_info", "The published item index.", {"version": version})
    if steward.published is not None and steward.published.model:
        labels = {"version": steward.published.model}
        yield info("livelist_model_info", "The newest published model that is sound.", labels)


def _of_flink(status: JobStatus) -> Iterator[Metric]:
    facts, verdict = status.facts, status.health.verdict
    yield Metric(
        "livelist_job_health",
        "gauge",
        "1 for the verdict of `livelist flink status`, 0 for the others.",
        [({"verdict": state}, float(state == verdict)) for state in _STATES],
    )
    yield one("livelist_restarts_total", "counter", "Times that Flink restarted the job.", facts.restarts)
    yield one("livelist_checkpoints_total", "counter", "Checkpoints that are complete.", facts.checkpoints)
    told = "Of the state in the newest checkpoint."
    yield one("livelist_state_bytes", "gauge", told, facts.checkpoint_bytes)
    since = facts.now - facts.checkpoint_at if facts.checkpoint_at else float("nan")
    yield one("livelist_checkpoint_age_seconds", "gauge", "Since the newest checkpoint.", since)
    told = "Whole lines in followed files that the job has not read."
    yield one("livelist_log_lag_bytes", "gauge", told, facts.unread)
    yield Metric(
        "livelist_source_lag_messages",
        "gauge",
        "Messages that wait at the broker, by the order of --input; 0 where it cannot be asked.",
        [({"source": str(place)}, source.waiting) for place, source in enumerate(facts.pulled)],
    )
