"""How a job on a cluster is: Flink's facts, the progress of its reading and writing, and the verdict."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

from pipeline.cluster.health import Facts, Health, gather, judge
from pipeline.cluster.rest import FlinkRest
from pipeline.cluster.settings import ClusterSettings
from pipeline.flink.source import Progress, read_progress
from pipeline.flink.steward import read_beat
from pipeline.flink.submit import FlinkJob, job_folder, load_job
from pipeline.inputs.finding import followed_files

#: The steward tells that it lives every second.
_STEWARD_SECONDS = 30.0
_TAIL: Final = 1 << 20


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
    progress = read_progress(job_folder(settings, name))
    facts = gather(
        FlinkRest(settings.rest),
        job.flink_id,
        now,
        progress.moved or None,
        float(str(output_at)) if output_at else None,
        unread_bytes(job, progress),
    )
    health = judge(facts)
    return JobStatus(job, facts, health, int(str(beat.get("snapshots", 0))), _steward_trouble(beat, now))


def unread_bytes(job: FlinkJob, progress: Progress) -> int:
    """Of the files that are followed, what stands behind the job's reader in whole lines."""
    unread = 0
    for path in followed_files([part for part in job.inputs if "://" not in part]):
        with suppress(OSError), open(path, "rb") as file:
            read = progress.offsets.get(path, 0)
            unread += _to_last_line_end(file, read, os.path.getsize(path))
    return unread


def _to_last_line_end(file: BinaryIO, begin: int, end: int) -> int:
    """Bytes from `begin` to behind the last line end before `end`; looks at the last megabyte only."""
    start = max(begin, end - _TAIL)
    file.seek(start)
    place = file.read(max(0, end - start)).rfind(b"\n")
    return start + place + 1 - begin if place >= 0 else 0


def _steward_trouble(beat: dict[str, object], now: float) -> str:
    if not beat:
        return "it has not begun"
    if beat.get("error"):
        return str(beat["error"])
    silent = now - float(str(beat.get("time", 0)))
    return f"it has been silent for {silent:.0f} s" if silent > _STEWARD_SECONDS else ""
