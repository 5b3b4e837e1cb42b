"""What is the matter with a job: Flink calls one that restarts for ever RUNNING most of the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from models.errors import DeploymentError
from pipeline.cluster.rest import FlinkRest, root_cause

Verdict = Literal["ok", "starting", "stalled", "failing", "lost", "ended"]

#: A job that has input must show output, or a checkpoint, within so long.
PATIENCE_SECONDS: Final = 60.0
#: So many restarts without a checkpoint between the last failure and now are no accident.
_MANY_RESTARTS: Final = 3
#: Nor are so many failures within so long, even where a checkpoint comes between one and the next.
_LATELY_SECONDS: Final = 300.0
_HISTORY: Final = 10


class Pulled(NamedTuple):
    """A source that is pulled."""

    name: str
    waiting: int  # messages at the broker that the job has not read; 0 too where it cannot be asked
    moved: float  # when one was last read; seconds since 1970


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a job; times in seconds since 1970, None where there was none yet."""

    now: float
    state: str  # Flink's word; UNKNOWN where it does not know the job
    started: float
    restarts: int
    failure: str  # the innermost message of the last one; empty: none
    failed_at: float | None
    checkpoints: int  # that are complete
    checkpoint_at: float | None
    checkpoint_bytes: int  # of the state in the newest
    checkpoint_failure: str  # why the newest attempt failed; empty: it did not
    read_at: float | None  # when the job last read something
    output_at: float | None  # newest rows
    unread: int = 0  # bytes of whole lines in files that the job has not read
    failed_lately: int = 0  # failures in the last five minutes, at most ten are told
    pulled: tuple[Pulled, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """A verdict, and why in one line."""

    verdict: Verdict
    why: str

    @property
    def well(self) -> bool:
        """Whether nobody has to look."""
        return self.verdict in ("ok", "starting")


def judge(facts: Facts) -> Health:
    """The verdict on a job."""
    if facts.state in ("FINISHED", "CANCELED", "FAILED"):
        why = f"Flink says {facts.state}" + (f": {facts.failure}" if facts.state == "FAILED" else "")
        return Health("ended", why)
    if facts.state == "UNKNOWN":
        return Health("lost", "Flink does not know it: `livelist flink resume` goes on from its last state")
    return _failing(facts) or _without_checkpoints(facts) or _stalled(facts) or _well(facts)


def _failing(facts: Facts) -> Health | None:
    told = f"{facts.restarts} restarts, the last after: {facts.failure or 'nothing told'}"
    if facts.state in ("RESTARTING", "FAILING"):
        return Health("failing", told)
    recovered = facts.checkpoint_at is not None and facts.checkpoint_at > (facts.failed_at or 0.0)
    if facts.restarts >= _MANY_RESTARTS and not recovered:
        return Health("failing", told)
    fails_now = facts.failed_at is not None and facts.now - facts.failed_at <= PATIENCE_SECONDS
    if facts.failed_lately >= _MANY_RESTARTS and fails_now:
        return Health("failing", told)
    return None


def _without_checkpoints(facts: Facts) -> Health | None:
    since = max(facts.checkpoint_at or facts.started, facts.failed_at or 0.0)
    if facts.now - since <= PATIENCE_SECONDS:
        return None
    why = facts.checkpoint_failure or "none was completed"
    return Health("failing", f"no checkpoint for {facts.now - since:.0f} s: {why}")


def _stalled(facts: Facts) -> Health | None:
    for source in facts.pulled:
        still = facts.now - max(source.moved, facts.started, facts.failed_at or 0.0)
        if source.waiting and still > PATIENCE_SECONDS:
            what = f"{source.waiting:,} messages of {source.name} wait, and none was read for {still:.0f} s"
            return Health("stalled", f"{what}: look at the broker, then take a savepoint and resume")
    moved = max(facts.read_at or 0.0, facts.started)
    if (still := facts.now - moved) <= PATIENCE_SECONDS:
        return None
    if facts.unread:
        what = f"{facts.unread:,} bytes of input wait, and nothing was read for {still:.0f} s"
        return Health("stalled", f"{what}: take a savepoint and resume")
    if facts.read_at is None or (facts.output_at is not None and facts.output_at >= facts.read_at):
        return None
    return Health("stalled", f"what was read {still:.0f} s ago shows no output: take a savepoint and resume")


def _well(facts: Facts) -> Health:
    if facts.output_at is None and facts.checkpoints == 0:
        return Health("starting", f"{facts.now - facts.started:.0f} s old, nothing written yet")
    past = f"; {facts.restarts} restarts, recovered" if facts.restarts else ""
    size = f"state {facts.checkpoint_bytes / 1e6:.1f} MB"
    return Health("ok", f"{facts.checkpoints} checkpoints, {size}{past}")


def gather(
    rest: FlinkRest,
    flink_id: str,
    now: float,
    read_at: float | None,
    output_at: float | None,
    unread: int = 0,
    pulled: tuple[Pulled, ...] = (),
) -> Facts:
    """Asks Flink. Raises DeploymentError where it does not answer."""
    try:
        job = rest.get(f"/jobs/{flink_id}")
    except DeploymentError as error:
        if " 404 " not in str(error):
            raise
        return Facts(now, "UNKNOWN", now, 0, "", None, 0, None, 0, "", read_at, output_at)
    history = _failures(rest.get(f"/jobs/{flink_id}/exceptions?maxExceptions={_HISTORY}"))
    failure, failed_at = history[0] if history else ("", None)
    told = rest.get(f"/jobs/{flink_id}/checkpoints")
    newest = (told.get("latest") or {}).get("completed") or {}
    return Facts(
        now,
        str(job["state"]),
        int(job["start-time"]) / 1000,
        int(rest.metric(f"/jobs/{flink_id}", "numRestarts") or 0),
        failure,
        failed_at,
        int(told["counts"]["completed"]),
        _seconds(newest.get("latest_ack_timestamp")),
        int(newest.get("state_size", 0)),
        _checkpoint_failure(told),
        read_at,
        output_at,
        unread,
        sum(at is not None and now - at <= _LATELY_SECONDS for _, at in history),
        pulled,
    )


def _failures(told: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Their innermost messages and times, newest first."""
    entries = (told.get("exceptionHistory") or {}).get("entries") or []
    return [
        (root_cause(entry.get("stacktrace") or ""), _seconds(entry.get("timestamp"))) for entry in entries
    ]


def _checkpoint_failure(told: dict[str, Any]) -> str:
    latest = told.get("latest") or {}
    failed, done = latest.get("failed") or {}, latest.get("completed") or {}
    if int(failed.get("id", 0)) <= int(done.get("id", 0)):
        return ""
    return root_cause(failed.get("failure_message") or "")


def _seconds(millis: object) -> float | None:
    return int(str(millis)) / 1000 if millis else None
