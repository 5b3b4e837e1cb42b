"""How a job on a cluster is: Flink's facts, the newest of its input and output, and the verdict."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from pipeline.cluster.health import Facts, Health, gather, judge
from pipeline.cluster.rest import FlinkRest
from pipeline.cluster.settings import ClusterSettings
from pipeline.flink_steward import read_beat
from pipeline.flink_submit import FlinkJob, job_folder, load_job
from pipeline.inputs import followed_files

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
    facts = gather(
        FlinkRest(settings.rest),
        job.flink_id,
        now,
        newest_input(job),
        float(str(output_at)) if output_at else None,
    )
    health = judge(facts)
    return JobStatus(job, facts, health, int(str(beat.get("snapshots", 0))), _steward_trouble(beat, now))


def newest_input(job: FlinkJob) -> float | None:
    """When a file that is followed last grew, after the job was submitted; None without any."""
    files = followed_files([part for part in job.inputs if "://" not in part])
    times = [os.path.getmtime(path) for path in files if os.path.exists(path) and os.path.getsize(path)]
    return max(times, default=None)


def _steward_trouble(beat: dict[str, object], now: float) -> str:
    if not beat:
        return "it has not begun"
    if beat.get("error"):
        return str(beat["error"])
    silent = now - float(str(beat.get("time", 0)))
    return f"it has been silent for {silent:.0f} s" if silent > _STEWARD_SECONDS else ""
