"""How a job on a cluster is: Flink's facts, the progress of its reading and writing, and the verdict."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline.cluster.health import Facts, Health, gather, judge
from pipeline.cluster.rest import FlinkRest
from pipeline.cluster.settings import ClusterSettings
from pipeline.flink.lag import files_among, pulled_sources
from pipeline.flink.source import progress_file, unread_bytes
from pipeline.flink.steward import read_beat
from pipeline.flink.submit import FlinkJob, job_folder, load_job
from pipeline.inputs.progress import read_progress

#: The steward tells that it lives every second.
_STEWARD_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job, now."""

    job: FlinkJob
    facts: Facts
    health: Health
    snapshots: int
    steward: str  # what is wrong with it; empty: nothing


def job_status(settings: ClusterSettings, name: str) -> JobStatus:
    """Raises UsageError for an unknown job, DeploymentError where Flink does not answer."""
    job, now = load_job(settings, name), time.time()
    beat = read_beat(job_folder(settings, name))
    output_at = beat.get("last_shard")
    folder, files = job_folder(settings, name), files_among(job.inputs)
    progress, pulled = read_progress(progress_file(folder)), pulled_sources(job.inputs, folder)
    moved = progress.moved if files else max((source.moved for source in pulled), default=0.0)
    facts = gather(
        FlinkRest(settings.rest),
        job.flink_id,
        now,
        moved or None,
        float(str(output_at)) if output_at else None,
        unread_bytes(files, progress),
        pulled,
    )
    health = judge(facts)
    return JobStatus(job, facts, health, int(str(beat.get("snapshots", 0))), _steward_trouble(beat, now))


def _steward_trouble(beat: dict[str, object], now: float) -> str:
    if not beat:
        return "it has not begun"
    if beat.get("error"):
        return str(beat["error"])
    silent = now - float(str(beat.get("time", 0)))
    return f"it has been silent for {silent:.0f} s" if silent > _STEWARD_SECONDS else ""
