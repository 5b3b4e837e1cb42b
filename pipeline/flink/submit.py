"""Jobs on a running cluster: submit, drain, stop with a savepoint, resume.

job = submit(config, settings, FlinkPlan(name="shop"))
...
savepoint(settings, "shop"); resume(settings, "shop", config)
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from models.accounting import Accounting
from models.errors import DeploymentError, OutputError, UsageError
from pipeline.cluster.cluster import forget_process, keep_process, refuse_unkept
from pipeline.cluster.rest import FlinkRest
from pipeline.cluster.settings import ClusterSettings
from pipeline.config import JobConfig
from pipeline.flink.books import close_books
from pipeline.flink.index import LEARNED
from pipeline.flink.job import build_flink, check_flink, check_services
from pipeline.flink.plan import DRAIN_SECONDS, FlinkPlan
from pipeline.flink.source import ALL_READ, DRAIN
from pipeline.flink.steward import ADOPTED, BEAT, CONFIG, folding_of, read_beat
from pipeline.job import NO_MODEL, scorer_of
from pipeline.tables.output_folder import local_path, new_run_id, stream_path

_JOB: Final = "job.json"
_READY_SECONDS: Final = 600.0
_CHECKPOINT_SECONDS: Final = 180
_RUNNING_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 120.0
#: Until a source that saw the sign to drain has told that it ended.
_TOLD_SECONDS: Final = 2.0
_SAVEPOINT_ATTEMPTS: Final = 3
#: Flink restores a savepoint by these names; more key groups than workers that there will ever be.
_MAX_PARALLELISM: Final = 128
ENDED: Final = ("FINISHED", "CANCELED", "FAILED")
_LOG: Final = logging.getLogger(__name__)


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
    drained: bool = False  # a source has read its end, and reads nothing more in any job that goes on from it
    started_in: str = ""  # the folder that relative paths among the flags are relative to


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
    check: bool = True,
    started_in: str = "",
) -> FlinkJob:
    """Starts a job, and returns when Flink runs it. With a savepoint it goes on from there.

    Raises LivelistError before anything starts where an input, the output or the model is not sound, or
    with `check` a service that is read or written. `started_in` is where the flags were given first.
    """
    config = absolute(config, started_in)
    check_flink(config)
    if check:
        check_services(config)
    score_feedback = scorer_of(config)
    rest = FlinkRest(settings.rest)
    refuse_unkept(settings)
    _refuse_running(rest, plan.name)
    _refuse_too_wide(rest, plan)
    run_id, folder = new_run_id(), job_folder(settings, plan.name)
    for sign in (DRAIN, ALL_READ):
        (folder / sign).unlink(missing_ok=True)
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
    job = FlinkJob(
        plan, run_id, flink_id, config.output, config.inputs, time.time(), arguments, savepoint,
        started_in=started_in or os.getcwd(),
    )  # fmt: skip
    _save(folder, job)
    return job


def drain(settings: ClusterSettings, name: str, seconds: float = DRAIN_SECONDS) -> Accounting:
    """Lets a job read what is there, emit what it held back, and end; then the tables are whole.

    Returns the books of all that it has read, resumed or not, which are in `quality` too.
    Raises DeploymentError where that takes longer: the job goes on then, and reads on where none of its
    sources had ended yet.
    """
    job, rest, folder = load_job(settings, name), FlinkRest(settings.rest), job_folder(settings, name)
    (folder / DRAIN).touch()
    try:
        if not _is_drained(rest, job, time.monotonic() + seconds):
            raise DeploymentError(_not_drained(folder, job, seconds))
    finally:
        if (folder / ALL_READ).exists():
            job = replace(job, drained=True)
            _save(folder, job)
    if job_state(rest, job.flink_id) not in ENDED:
        rest.cancel(job.flink_id)
        _await_ended(rest, job)
    forget_process(settings, _steward(name))
    books = close_books(folder, local_path(job.output), job.run_id)
    _fold_rest(job, folder)
    if (state := job_state(rest, job.flink_id)) == "FAILED":
        raise DeploymentError(f"job {name} ended as {state}: {last_exception(rest, job.flink_id)}")
    return books


def _not_drained(folder: Path, job: FlinkJob, seconds: float) -> str:
    """Lets a job whose sources all read on do so; says how it is, and what to do."""
    told = f"job {job.plan.name} was not drained within {seconds:.0f} s"
    if not (folder / ALL_READ).exists():
        (folder / DRAIN).unlink(missing_ok=True)
        time.sleep(_TOLD_SECONDS)
    if not (folder / ALL_READ).exists():
        return (
            f"{told}, for its input is not read to its end; it reads on as before (`livelist flink status` "
            "says how it is). Drain it again with more --drain_seconds"
        )
    (folder / DRAIN).touch()
    return (
        f"{told}: it has read its input to the end and still writes what it made of it. Drain it again, with "
        "more --drain_seconds; it reads nothing new, and cannot be resumed"
    )


def _fold_rest(job: FlinkJob, folder: Path) -> None:
    """What the steward has not come to: it is killed where it does not end in time."""
    output, deadline = local_path(job.output), time.monotonic() + _STOP_SECONDS
    folding = folding_of(folder)
    while list(stream_path(output, job.run_id).glob("*/*.shard")):
        folding.fold()
        if time.monotonic() > deadline:
            left = stream_path(output, job.run_id)
            raise OutputError(f"lists are left in {left}: the next start of the job folds them")


def _is_drained(rest: FlinkRest, job: FlinkJob, deadline: float) -> bool:
    """Waits until everything was read and is on disk; False where it is not by then.

    Beam's first step never ends where checkpoints are taken, and so no job with an end of input does: the
    last watermark tells that all was read, and two more checkpoints that no bundle is open. A JobManager
    that does not answer may be back in time.
    """
    checkpoints = None
    while time.monotonic() <= deadline:
        try:
            if job_state(rest, job.flink_id) in ENDED:
                return True
            if checkpoints is None and rest.all_is_read(job.flink_id):
                checkpoints = rest.completed_checkpoints(job.flink_id)
            if checkpoints is not None and rest.completed_checkpoints(job.flink_id) >= checkpoints + 2:
                return True
        except DeploymentError as error:
            _LOG.info("asked again: %s", error)
        time.sleep(0.2)
    return False


def savepoint(settings: ClusterSettings, name: str) -> str:
    """Stops a job; returns the path of the savepoint that it resumes from."""
    job, rest = load_job(settings, name), FlinkRest(settings.rest)
    if job.drained or (job_folder(settings, name) / ALL_READ).exists():
        raise UsageError(
            f"job {name} has read its input to the end for a drain, and would read nothing more when it is "
            "resumed: `livelist flink drain` ends it, `livelist flink submit` starts it anew"
        )
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
    """The path of a job's last savepoint or whole checkpoint; raises DeploymentError where there is none.

    Raises UsageError for a job that was drained: what goes on from its state reads nothing.
    """
    refuse_drained(job, "")
    if job.savepoint:
        return job.savepoint
    made = list(settings.checkpoints.glob(f"{job.flink_id}/chk-*/_metadata"))
    if not made and job.started_from:
        return job.started_from
    if not made:
        raise DeploymentError(f"job {job.plan.name} left no checkpoint in {settings.checkpoints}")
    return max(made, key=lambda path: int(path.parent.name[4:])).parent.as_uri()


def refuse_drained(job: FlinkJob, start: str) -> None:
    """Raises UsageError where a job would go on from the state of a drained one; `start` is what was asked.

    A savepoint that was taken before the drain is none.
    """
    if job.drained and (not start or f"/{job.flink_id}/" in f"{start}/"):
        raise UsageError(
            f"job {job.plan.name} was drained: it has read its input to the end, and what goes on from there "
            "reads nothing more. Submit it anew, which reads files from their beginning, or give a savepoint "
            "from before the drain as --from"
        )


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
        f"--job_endpoint={settings.at.jobs}",
        f"--artifact_endpoint={settings.at.artifacts}",
        f"--job_name={plan.name}",
        "--environment_type=EXTERNAL",
        f"--environment_config={settings.at.workers}",
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
        for sign in (ADOPTED, LEARNED):
            (folder / sign).unlink(missing_ok=True)
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


def absolute(config: JobConfig, folder: str = "") -> JobConfig:
    """Paths as workers, which run elsewhere, understand them; relative ones are in `folder`, or here."""

    def path(part: str) -> str:
        return part if "://" in part else str(Path(folder).absolute() / Path(part).expanduser())

    def model(part: str | None) -> str | None:
        return part if part in (None, NO_MODEL) else path(str(part))

    return replace(
        config,
        inputs=tuple(part if part == "-" else path(part) for part in config.inputs),
        items=tuple(map(path, config.items)),
        output=path(config.output),
        model=model(config.model),
        topics=model(config.topics),
        canary_model=model(config.canary_model),
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
