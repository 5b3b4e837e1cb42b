"""Jobs on a running cluster: submit, drain, stop with a savepoint, resume.

job = submit(config, settings, FlinkPlan(name="shop"))
...
savepoint(settings, "shop"); resume(settings, "shop", config)
"""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from models.accounting import Accounting
from models.errors import DeploymentError, OutputError, UsageError
from pipeline.cluster.cluster import forget_process, keep_process
from pipeline.cluster.rest import FlinkRest
from pipeline.cluster.settings import ClusterSettings
from pipeline.config import JobConfig
from pipeline.flink.books import close_books
from pipeline.flink.job import build_flink, check_flink
from pipeline.flink.source import DRAIN, POLL_SECONDS
from pipeline.flink.steward import ADOPTED, BEAT, CONFIG, folding_of, read_beat
from pipeline.job import scorer_of
from pipeline.tables.output_folder import local_path, new_run_id, stream_path

_JOB: Final = "job.json"
_READY_SECONDS: Final = 600.0
_CHECKPOINT_SECONDS: Final = 180
_RUNNING_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 120.0
_SAVEPOINT_ATTEMPTS: Final = 3
#: Flink restores a savepoint by these names; more key groups than workers that there will ever be.
_MAX_PARALLELISM: Final = 128
ENDED: Final = ("FINISHED", "CANCELED", "FAILED")


@dataclass(frozen=True, slots=True)
class FlinkPlan:
    """How a job runs."""

    name: str = "livelist"
    parallelism: int = 1
    bundle_millis: int = 100
    bundle_size: int = 1_000
    poll_seconds: float = POLL_SECONDS
    spread: bool = True
    checkpoint_millis: int | None = None  # None: the cluster's
    metrics_port: int | None = None  # where its steward serves them; None: nowhere
    metrics_host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", self.name):
            raise UsageError(f"--name: expected up to 40 letters, digits, - and _, got {self.name!r}")
        if self.parallelism < 1:
            raise UsageError(f"--parallelism must be at least 1, got {self.parallelism}")


@dataclass(frozen=True, slots=True)
class FlinkJob:
    """A job that was submitted, as its folder remembers it."""

    plan: FlinkPlan
    run_id: str
    flink_id: str  # of the newest submission
    output: str
    inputs: tuple[str, ...]
    submitted: float  # seconds since 1970
    arguments: tuple[str, ...] = ()  # the flags that it was started with
    started_from: str = ""  # the savepoint or checkpoint of the newest submission
    savepoint: str = ""  # that it was stopped with since


def job_folder(settings: ClusterSettings, name: str) -> Path:
    """Where a job's files are."""
    return settings.root / "jobs" / name


def load_job(settings: ClusterSettings, name: str) -> FlinkJob:
    """A job by name. Raises UsageError where there is none."""
    try:
        told: dict[str, Any] = json.loads((job_folder(settings, name) / _JOB).read_text())
    except OSError as error:
        known = ", ".join(job_names(settings)) or "none yet"
        raise UsageError(f"there is no job {name!r} on this cluster (known: {known})") from error
    plan, inputs = FlinkPlan(**told.pop("plan")), tuple(told.pop("inputs"))
    return FlinkJob(plan=plan, inputs=inputs, arguments=tuple(told.pop("arguments")), **told)


def job_names(settings: ClusterSettings) -> list[str]:
    """Every job that was submitted here."""
    return sorted(path.parent.name for path in (settings.root / "jobs").glob(f"*/{_JOB}"))


def submit(
    config: JobConfig,
    settings: ClusterSettings,
    plan: FlinkPlan,
    arguments: tuple[str, ...] = (),
    savepoint: str = "",
) -> FlinkJob:
    """Starts a job, and returns when Flink runs it. With a savepoint it goes on from there.

    Raises LivelistError before anything starts where an input, the output or the model is not sound.
    """
    check_flink(config)
    score_feedback = scorer_of(config)
    rest = FlinkRest(settings.rest)
    _refuse_running(rest, plan.name)
    _refuse_too_wide(rest, plan)
    config = _absolute(config)
    run_id, folder = new_run_id(), job_folder(settings, plan.name)
    (folder / DRAIN).unlink(missing_ok=True)
    _start_steward(settings, plan, config, run_id, anew=not savepoint)
    before = {job["jid"] for job in rest.jobs()}
    try:
        pipeline = beam.Pipeline("PortableRunner", PipelineOptions(_beam_options(settings, plan, savepoint)))
        build_flink(pipeline, config, score_feedback, run_id, folder, plan.poll_seconds, plan.spread)
        pipeline.run()
        flink_id = _await_running(settings, rest, plan.name, before)
    except BaseException:
        forget_process(settings, _steward(plan.name))
        raise
    job = FlinkJob(plan, run_id, flink_id, config.output, config.inputs, time.time(), arguments, savepoint)
    _save(folder, job)
    return job


def drain(settings: ClusterSettings, name: str, seconds: float = _STOP_SECONDS) -> Accounting:
    """Lets a job read what is there, emit what it held back, and end; then the tables are whole.

    Returns the books of all that it has read, resumed or not, which are in `quality` too.
    """
    job, rest = load_job(settings, name), FlinkRest(settings.rest)
    (job_folder(settings, name) / DRAIN).touch()
    deadline = time.monotonic() + seconds
    _await_drained(rest, job, deadline)
    if job_state(rest, job.flink_id) not in ENDED:
        rest.cancel(job.flink_id)
        _await_ended(rest, job)
    forget_process(settings, _steward(name))
    books = close_books(job_folder(settings, name), local_path(job.output), job.run_id)
    _fold_rest(job, job_folder(settings, name))
    if (state := job_state(rest, job.flink_id)) == "FAILED":
        raise DeploymentError(f"job {name} ended as {state}: {last_exception(rest, job.flink_id)}")
    return books


def _fold_rest(job: FlinkJob, folder: Path) -> None:
    """What the steward has not come to: it is killed where it does not end in time."""
    output, deadline = local_path(job.output), time.monotonic() + _STOP_SECONDS
    folding = folding_of(folder)
    while list(stream_path(output, job.run_id).glob("*/*.shard")):
        folding.fold()
        if time.monotonic() > deadline:
            left = stream_path(output, job.run_id)
            raise OutputError(f"lists are left in {left}: the next start of the job folds them")


def _await_drained(rest: FlinkRest, job: FlinkJob, deadline: float) -> None:
    """Until everything was read and is on disk.

    Beam's first step never ends where checkpoints are taken, and so no job with an end of input does: the
    last watermark tells that all was read, and two more checkpoints that no bundle is open.
    """
    checkpoints = None
    while job_state(rest, job.flink_id) not in ENDED:
        if time.monotonic() > deadline:
            raise DeploymentError(f"job {job.plan.name} is not drained in time; it goes on")
        if checkpoints is None and rest.all_is_read(job.flink_id):
            checkpoints = rest.completed_checkpoints(job.flink_id)
        if checkpoints is not None and rest.completed_checkpoints(job.flink_id) >= checkpoints + 2:
            return
        time.sleep(0.2)


def savepoint(settings: ClusterSettings, name: str) -> str:
    """Stops a job; returns the path of the savepoint that it resumes from."""
    job, rest = load_job(settings, name), FlinkRest(settings.rest)
    path = _stopped(rest, job, settings.savepoints.as_uri())
    _await_ended(rest, job)
    forget_process(settings, _steward(name))
    _save(job_folder(settings, name), replace(job, savepoint=path))
    return path


def _stopped(rest: FlinkRest, job: FlinkJob, folder: str) -> str:
    """The savepoint; asked for again where a fault came between."""
    deadline, attempts = time.monotonic() + _STOP_SECONDS, _SAVEPOINT_ATTEMPTS
    while True:
        while not _all_runs(rest.get(f"/jobs/{job.flink_id}")) and time.monotonic() < deadline:
            time.sleep(0.2)
        try:
            return rest.stop_with_savepoint(job.flink_id, folder, _STOP_SECONDS)
        except DeploymentError:
            attempts -= 1
            if not attempts or job_state(rest, job.flink_id) in ENDED:
                raise


def _all_runs(told: dict[str, Any]) -> bool:
    """Whether every part of a job runs, or there is no job any more."""
    return told["state"] in ENDED or all(vertex["status"] == "RUNNING" for vertex in told["vertices"])


def cancel(settings: ClusterSettings, name: str) -> None:
    """Stops a job at once; its last checkpoint stays."""
    job, rest = load_job(settings, name), FlinkRest(settings.rest)
    if job_state(rest, job.flink_id) not in ENDED:
        rest.cancel(job.flink_id)
        _await_ended(rest, job)
    forget_process(settings, _steward(name))


def newest_state(settings: ClusterSettings, job: FlinkJob) -> str:
    """The path of a job's last savepoint or whole checkpoint; raises DeploymentError where there is none."""
    if job.savepoint:
        return job.savepoint
    made = list(settings.checkpoints.glob(f"{job.flink_id}/chk-*/_metadata"))
    if not made and job.started_from:
        return job.started_from
    if not made:
        raise DeploymentError(f"job {job.plan.name} left no checkpoint in {settings.checkpoints}")
    return max(made, key=lambda path: int(path.parent.name[4:])).parent.as_uri()


def job_state(rest: FlinkRest, flink_id: str) -> str:
    """As Flink says; UNKNOWN where it has forgotten the job."""
    try:
        return str(rest.get(f"/jobs/{flink_id}")["state"])
    except DeploymentError as error:
        if " 404 " in str(error):
            return "UNKNOWN"
        raise


def last_exception(rest: FlinkRest, flink_id: str) -> str:
    """The innermost message of the last failure, in one line; empty where there was none."""
    from pipeline.cluster.rest import root_cause

    told = rest.get(f"/jobs/{flink_id}/exceptions?maxExceptions=1")
    trace = told.get("root-exception") or ""
    return root_cause(trace) if trace else ""


def _beam_options(settings: ClusterSettings, plan: FlinkPlan, savepoint_path: str) -> list[str]:
    checkpoint = plan.checkpoint_millis or round(settings.checkpoint_seconds * 1000)
    options = [
        # Or a step that waits for a slow model would hold up, at every checkpoint, all that it meets.
        "--unaligned_checkpoint_enabled",
        # Or what a bundle gives out that a checkpoint cuts short waits in the state for the next bundle or
        # watermark; behind the last of both, when a job is drained, nothing ever fetches it.
        "--finish_bundle_before_checkpointing",
        # A drain was seen to wait for a checkpoint that one step never confirmed: Flink's own ten minutes are
        # long for that, while a bundle that waits for a slow model needs some.
        f"--checkpoint_timeout_millis={_CHECKPOINT_SECONDS * 1000}",
        f"--job_endpoint=127.0.0.1:{settings.job_port}",
        f"--artifact_endpoint=127.0.0.1:{settings.artifact_port}",
        f"--job_name={plan.name}",
        "--environment_type=EXTERNAL",
        f"--environment_config=127.0.0.1:{settings.pool_port}",
        "--streaming",
        f"--parallelism={plan.parallelism}",
        f"--max_parallelism={_MAX_PARALLELISM}",
        # Which steps Flink chains depends on the parallelism, and the names of their states on the chains:
        # without chains a savepoint fits any parallelism. Beam's flag turns off what is on by default.
        "--operator_chaining",
        # At its default of 1000 ms some starts gave no output at all.
        f"--max_bundle_time_mills={plan.bundle_millis}",
        f"--max_bundle_size={plan.bundle_size}",
        f"--checkpointing_interval={checkpoint}",
        "--externalized_checkpoints_enabled",
        "--retain_externalized_checkpoints_on_cancellation",
    ]
    return options + ([f"--savepoint_path={savepoint_path}"] if savepoint_path else [])


def _start_steward(
    settings: ClusterSettings, plan: FlinkPlan, config: JobConfig, run_id: str, anew: bool
) -> None:
    """Returns when the output is ours and an index is published. Raises LivelistError."""
    name = plan.name
    folder = job_folder(settings, name)
    forget_process(settings, _steward(name))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BEAT).unlink(missing_ok=True)
    if anew:
        (folder / ADOPTED).unlink(missing_ok=True)
    handle = os.open(folder / CONFIG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it may hold a key
    with os.fdopen(handle, "wb") as file:
        pickle.dump((run_id, config), file)
    metrics = [] if plan.metrics_port is None else [plan.metrics_host, str(plan.metrics_port)]
    command = [sys.executable, "-m", "pipeline.flink.steward", str(folder), *metrics]
    keep_process(settings, _steward(name), command)
    deadline = time.monotonic() + _READY_SECONDS
    while not (beat := read_beat(folder)).get("ready"):
        if beat.get("error") or time.monotonic() > deadline:
            forget_process(settings, _steward(name))
            why = beat.get("error") or f"it was not ready within {_READY_SECONDS:.0f} s"
            raise DeploymentError(f"the job's steward: {why} (see {settings.logs / _steward(name)}.log)")
        time.sleep(0.1)


def _steward(name: str) -> str:
    return f"job-{name}"


def _absolute(config: JobConfig) -> JobConfig:
    """Paths as workers, which run elsewhere, understand them."""
    inputs = tuple(part if "://" in part else str(Path(part).absolute()) for part in config.inputs)
    items = tuple(part if "://" in part else str(Path(part).absolute()) for part in config.items)
    return replace(
        config, inputs=inputs, items=items, output=str(Path(config.output).expanduser().absolute())
    )


def _refuse_running(rest: FlinkRest, name: str) -> None:
    if any(
        job["name"].startswith(name) and job["state"] not in ENDED
        for job in rest.jobs()
        if job["name"] == name
    ):
        raise UsageError(f"a job {name!r} runs on this cluster already; stop it, or give another --name")


def _refuse_too_wide(rest: FlinkRest, plan: FlinkPlan) -> None:
    free = int(rest.get("/overview")["slots-available"])
    if plan.parallelism > free:
        raise UsageError(
            f"--parallelism {plan.parallelism} needs as many free slots, and {free} are free: "
            "`livelist flink up --task_managers N --slots M` makes more"
        )


def _await_running(settings: ClusterSettings, rest: FlinkRest, name: str, before: set[str]) -> str:
    deadline = time.monotonic() + _RUNNING_SECONDS
    while time.monotonic() < deadline:
        new = [job for job in rest.jobs() if job["jid"] not in before and job["name"] == name]
        if new and new[0]["state"] in ENDED:
            raise DeploymentError(f"job {name} {new[0]['state']}: {last_exception(rest, new[0]['jid'])}")
        if new and new[0]["state"] == "RUNNING" and new[0]["tasks"]["running"] == new[0]["tasks"]["total"]:
            return str(new[0]["jid"])
        time.sleep(0.2)
    raise DeploymentError(f"job {name} did not run within {_RUNNING_SECONDS:.0f} s: see {settings.logs}")


def _await_ended(rest: FlinkRest, job: FlinkJob) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    while job_state(rest, job.flink_id) not in ENDED:
        if time.monotonic() > deadline:
            raise DeploymentError(f"job {job.plan.name} did not end within {_STOP_SECONDS:.0f} s")
        time.sleep(0.2)


def _save(folder: Path, job: FlinkJob) -> None:
    partial = folder / f".{_JOB}"
    partial.touch(0o600)
    partial.write_text(json.dumps(asdict(job), indent=1) + "\n")
    os.replace(partial, folder / _JOB)
