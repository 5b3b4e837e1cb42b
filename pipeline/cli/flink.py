"""A Flink cluster on this machine, without Docker, and the endless jobs on it.

up         fetch what is missing (once) and start a cluster: its processes are kept running
attach     tend jobs on a cluster that others keep, such as Kubernetes, until Ctrl-C; they go on then
submit     start an endless job: the flags are those of `livelist run`
status     how cluster and jobs are; ends with 1 when a job fails, stalls or is lost
savepoint  stop a job, keeping all of its state
resume     go on from that savepoint, or from the last checkpoint; with the code as it is now
drain      read what is there, emit what was held back, end the job
down       end every process; checkpoints, savepoints and tables stay"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.errors import DeploymentError, UsageError
from pipeline.cli.console import quiet_libraries
from pipeline.cli.parsing import CommandParser
from pipeline.flags.engines import Engine, given_flags, refuse_alone, refuse_meaningless
from pipeline.flags.groups import GROUPS, add_flags
from pipeline.flags.values import positive_float

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipeline.cluster.settings import ClusterSettings
    from pipeline.config import JobConfig
    from pipeline.flink.submit import FlinkJob

EXAMPLE: Final = """livelist flink up
  mkdir -p out/events
  livelist flink submit --input out/events --output out/lists
  (append JSON lines to files in out/events)
  livelist flink status
  livelist flink savepoint && livelist flink resume
  livelist flink down"""
_ACTIONS: Final = ("up", "attach", "submit", "status", "savepoint", "resume", "drain", "down")
_FOLDER: Final = "out/flink"
_WATCH_SECONDS: Final = 2.0
#: A JobManager that died is replaced within half a minute; one that is away for longer is gone.
_SILENT_SECONDS: Final = 120.0


def parse(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """The action and its flags."""
    if not arguments or arguments[0] not in _ACTIONS:
        parser.usage = f"livelist flink {{{'|'.join(_ACTIONS)}}} [flags]"
        parser.add_argument("action", choices=_ACTIONS)
        return parser.parse_args(arguments[:1])
    quiet_libraries()  # some flags are told by what imports Beam, which warns of what is not installed
    action = arguments[0]
    own = CommandParser(f"livelist flink {action}", _described(action), f"example:\n  {EXAMPLE}")
    own.add_argument(
        "--cluster", default=_FOLDER, metavar="FOLDER", help="of the cluster (default: %(default)s)"
    )
    _FLAGS.get(action, _job_flags)(own)
    args = own.parse_args(arguments[1:])
    args.action, args.given = action, arguments[1:]
    return args


def run(args: argparse.Namespace) -> int:
    """Do it."""
    quiet_libraries()
    return _DO[args.action](args)


def _described(action: str) -> str:
    lines = (__doc__ or "").splitlines()
    return next((line.split(maxsplit=1)[1] for line in lines if line.startswith(action)), action)


def _up_flags(parser: CommandParser) -> None:
    from pipeline.cluster.cluster import ClusterPlan
    from pipeline.cluster.jars import JARS

    plan = ClusterPlan()
    add = parser.add_argument
    add("--task_managers", type=int, default=plan.task_managers, help="processes (default: %(default)s)")
    add("--slots", type=int, default=plan.slots, help="of each task manager (default: %(default)s)")
    add("--heap_mb", type=int, default=plan.heap_mb, help="of each task manager (default: %(default)s)")
    add(
        "--checkpoint_seconds",
        type=float,
        default=plan.checkpoint_seconds,
        help="between two checkpoints; what a fault can make run again (default: %(default)s)",
    )
    add(
        "--state_cache_mb",
        type=int,
        default=plan.state_cache_mb,
        help="of each worker (default: %(default)s)",
    )
    add(
        "--rest_port", type=int, default=plan.rest_port, help="of Flink's page; 0: any (default: %(default)s)"
    )
    add("--jars", choices=JARS, default=plan.jars, help="official: Beam's job server; pinned: our pom's jars")
    add("--cache", metavar="FOLDER", help="of what is fetched (default: ~/.cache/livelist/flink)")


def _attach_flags(parser: CommandParser) -> None:
    from pipeline.cluster.cluster import ClusterPlan

    add = parser.add_argument
    add("--rest", required=True, metavar="URL", help="of Flink's REST interface, http://HOST:8081")
    add("--job_server", required=True, metavar="HOST:PORT", help="Beam's job server")
    add("--artifacts", required=True, metavar="HOST:PORT", help="of the same, where it stages files")
    add(
        "--workers",
        default="127.0.0.1:50000",
        metavar="HOST:PORT",
        help="the pool of Python workers, as each task manager reaches its own (default: %(default)s)",
    )
    add("--checkpoints", required=True, metavar="FOLDER", help="Flink's state.checkpoints.dir, mounted here")
    add("--savepoints", required=True, metavar="FOLDER", help="where jobs are stopped to, mounted here too")
    add(
        "--checkpoint_seconds",
        type=positive_float,
        default=ClusterPlan().checkpoint_seconds,
        help="between two checkpoints (default: %(default)s)",
    )


def _job_flags(parser: CommandParser) -> None:
    from pipeline.flink.plan import FlinkPlan

    parser.add_argument("--name", default=FlinkPlan().name, help="of the job (default: %(default)s)")


def _submit_flags(parser: CommandParser) -> None:
    from pipeline.flink.plan import FlinkPlan

    plan = FlinkPlan()
    add = parser.add_argument
    _job_flags(parser)
    add("--parallelism", type=int, default=plan.parallelism, help="slots it takes (default: %(default)s)")
    add(
        "--bundle_millis",
        type=int,
        default=plan.bundle_millis,
        help="a list waits at most so long for others; 500 and less only (default: %(default)s)",
    )
    add(
        "--poll_seconds",
        type=float,
        default=plan.poll_seconds,
        help="between two looks at idle files (default: %(default)s)",
    )
    _add_no_check(parser)
    add_flags(parser, *GROUPS)


def _add_no_check(parser: CommandParser) -> None:
    parser.add_argument(
        "--no_check",
        action="store_true",
        help="start without looking whether what workers read and write is there: only they can reach it",
    )


def _drain_flags(parser: CommandParser) -> None:
    from pipeline.flink.plan import DRAIN_SECONDS

    _job_flags(parser)
    parser.add_argument(
        "--drain_seconds",
        type=positive_float,
        default=DRAIN_SECONDS,
        metavar="SECONDS",
        help="it is waited so long for; a checkpoint alone may take 180 (default: %(default)g)",
    )


def _resume_flags(parser: CommandParser) -> None:
    _job_flags(parser)
    parser.add_argument("--from", dest="start", metavar="PATH", help="a savepoint or checkpoint of the job")
    parser.add_argument("--parallelism", type=int, help="another number of slots than before")
    _add_no_check(parser)


def _status_flags(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _no_flags(parser: CommandParser) -> None:
    """Only --cluster."""


def _up(args: argparse.Namespace) -> int:
    from pipeline.cluster.cluster import ClusterPlan, up

    names = ("task_managers", "slots", "heap_mb", "checkpoint_seconds", "state_cache_mb", "rest_port", "jars")
    plan = ClusterPlan(
        folder=Path(args.cluster),
        cache=Path(args.cache) if args.cache else None,
        **{name: getattr(args, name) for name in names},
    )
    settings = up(plan, _say)
    print(f"Flink is up: {settings.rest} (logs in {settings.logs}); `livelist flink submit` starts a job")
    return 0


def _attach(args: argparse.Namespace) -> int:
    from pipeline.cluster.attached import attach
    from pipeline.cluster.cluster import down, running_processes
    from pipeline.cluster.settings import Addresses

    folder = Path(args.cluster)
    rest = args.rest.rstrip("/")
    shared = (os.path.abspath(each) for each in (args.checkpoints, args.savepoints))
    addresses = Addresses(rest, args.job_server, args.artifacts, args.workers, *shared)
    with until_asked(None) as asked:
        attach(folder, addresses, args.checkpoint_seconds)
        print(
            f"attached to {rest}; `livelist flink submit --cluster {folder}` starts a job",
            flush=True,
        )
        while not asked.wait(_WATCH_SECONDS) and any(running_processes(folder).values()):
            pass
    down(folder)
    print("let go; jobs go on, and their tables are folded when this is started again")
    return 0 if asked.is_set() else 1


def _submit(args: argparse.Namespace) -> int:
    from pipeline.flags.parsed import job_config
    from pipeline.flink.plan import FlinkPlan
    from pipeline.flink.submit import submit

    _refuse_meaningless(args)
    plan = FlinkPlan(
        args.name,
        args.parallelism,
        args.bundle_millis,
        poll_seconds=args.poll_seconds,
        metrics_port=args.metrics_port,
        metrics_host=args.metrics_host,
    )
    settings = _settings(args)
    _say(f"starting job {plan.name}")
    config = job_config(args, os.environ)
    job = submit(config, settings, plan, tuple(args.given), check=not args.no_check)
    _say_runs(job, settings)
    return 0


def _refuse_meaningless(args: argparse.Namespace) -> None:
    """Raises UsageError for a flag of `livelist run` that a job on a cluster would pass over in silence."""
    given = given_flags(args.given)
    if "run_for_seconds" in given:
        raise UsageError("--run_for_seconds is for `livelist run`; `livelist flink drain` ends a job")
    refuse_alone(given)
    refuse_meaningless(given, Engine.FLINK)


def _say_runs(job: FlinkJob, settings: ClusterSettings) -> None:
    print(f"job {job.plan.name} runs: {settings.rest}/#/job/{job.flink_id}/overview; tables in {job.output}")


def _status(args: argparse.Namespace) -> int:
    from pipeline.cluster.cluster import running_processes
    from pipeline.flink.status import job_status
    from pipeline.flink.submit import job_names

    settings = _settings(args)
    processes = running_processes(settings.root)
    if not processes:
        raise UsageError(f"the cluster in {settings.root} is down: {settings.remedy}")
    statuses = [job_status(settings, name) for name in job_names(settings)]
    dead = [name for name, runs in processes.items() if not runs]
    if args.json:
        told = [asdict(status) for status in statuses]
        print(json.dumps({"rest": settings.rest, "processes": processes, "jobs": told}))
    else:
        print(f"cluster  {settings.rest}  {len(processes) - len(dead)} of {len(processes)} processes run")
        for name in dead:
            print(f"         {name} has ended and is being started again: {settings.logs / name}.log")
        for status in statuses:
            print(f"job      {status.job.plan.name}  {status.health.verdict.upper()}  {status.health.why}")
            if status.steward and status.health.well:
                print(f"         steward: {status.steward}")
    bad = any(not status.health.well and status.health.verdict != "ended" for status in statuses)
    return 1 if bad or dead else 0


def _savepoint(args: argparse.Namespace) -> int:
    from pipeline.flink.submit import savepoint

    path = savepoint(_settings(args), args.name)
    print(f"job {args.name} stopped; `livelist flink resume` goes on from {path}")
    return 0


def _resume(args: argparse.Namespace) -> int:
    from pipeline.flink.submit import load_job, newest_state, refuse_drained, submit

    settings = _settings(args)
    job = load_job(settings, args.name)
    refuse_drained(job, args.start or "")
    start = args.start or newest_state(settings, job)
    plan = replace(job.plan, parallelism=args.parallelism or job.plan.parallelism)
    _say(f"resuming job {job.plan.name} from {start}")
    config, check = _config_of(job), not args.no_check
    _say_runs(submit(config, settings, plan, job.arguments, start, check, job.started_in), settings)
    return 0


def _config_of(job: FlinkJob) -> JobConfig:
    """The job's flags, read anew by the code as it is now."""
    from pipeline.flags.parsed import job_config

    own = CommandParser("livelist flink submit")
    own.add_argument("--cluster")
    _submit_flags(own)
    return job_config(own.parse_args(list(job.arguments)), os.environ)


def _drain(args: argparse.Namespace) -> int:
    from pipeline.flink.submit import drain

    print(drain(_settings(args), args.name, args.drain_seconds).as_line())
    print(f"job {args.name} is drained; its tables are whole")
    return 0


def _down(args: argparse.Namespace) -> int:
    from pipeline.cluster.cluster import down

    print(f"{down(Path(args.cluster))} processes ended")
    return 0


def run_in_foreground(config: JobConfig, options: PipelineOptions, args: argparse.Namespace) -> int:
    """`livelist run --streaming --runner FlinkRunner`: submits, waits for Ctrl-C or the time, drains."""
    from apache_beam.options.pipeline_options import FlinkRunnerOptions

    from pipeline.cluster.settings import load_settings
    from pipeline.flink.plan import FlinkPlan
    from pipeline.flink.submit import submit

    refuse_beam_options(options)
    settings = load_settings(Path(_FOLDER))
    plan = FlinkPlan(
        parallelism=max(1, options.view_as(FlinkRunnerOptions).parallelism),
        metrics_port=args.metrics_port,
        metrics_host=args.metrics_host,
    )
    _say(f"runner: FlinkRunner, on the cluster in {_FOLDER}; Ctrl-C drains the job")
    with until_asked(args.run_for_seconds) as asked:
        _say_runs(submit(config, settings, plan), settings)
        return _watch(settings, plan.name, asked)


def refuse_beam_options(options: PipelineOptions) -> None:
    """Raises UsageError for an option of Beam's that a job of `livelist flink` would not heed."""
    instead = {
        "flink_master": "the cluster is that of `livelist flink up`; `livelist flink submit --cluster` names "
        "another",
        "setup_file": "workers take the code from where `livelist flink up` ran: install it there",
    }
    given = options.get_all_options(drop_default=True)
    for name in sorted(given.keys() - {"runner", "streaming", "parallelism"}):
        why = instead.get(
            name, "the job runs on the cluster of `livelist flink up`, which sets Beam's options"
        )
        raise UsageError(f"--{name} goes unheard in an endless job on Flink: {why}")


@contextmanager
def until_asked(after_seconds: float | None) -> Iterator[threading.Event]:
    """An event that is set by SIGINT, SIGTERM or the time."""
    asked = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in numbers}
    timer = threading.Timer(after_seconds, asked.set) if after_seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield asked
    finally:
        if timer is not None:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(settings: ClusterSettings, name: str, asked: threading.Event) -> int:
    """Says when the job's health changes; drains it when that is asked for.

    A JobManager that does not answer is waited for. Raises DeploymentError where it stays away.
    """
    from pipeline.flink.status import job_status
    from pipeline.flink.submit import drain

    told, silent_since = "", None
    while not asked.wait(_WATCH_SECONDS):
        try:
            health = job_status(settings, name).health
        except DeploymentError as error:
            if silent_since is None:
                silent_since, told = time.monotonic(), ""
                _say(f"{error}; it is waited for, up to {_SILENT_SECONDS:.0f} s")
            elif time.monotonic() - silent_since > _SILENT_SECONDS:
                raise DeploymentError(
                    f"{error}; job {name} is not drained: `livelist flink drain` does that when it is back"
                ) from error
            continue
        silent_since = None
        if health.verdict != told:
            told = health.verdict
            _say(f"job {name}: {told}: {health.why}")
        if told == "ended":
            return 1
    _say("draining")
    print(drain(settings, name).as_line())
    print(f"job {name} is drained; its tables are whole")
    return 0


def _settings(args: argparse.Namespace) -> ClusterSettings:
    from pipeline.cluster.settings import load_settings

    return load_settings(Path(args.cluster))


def _say(text: str) -> None:
    print(f"livelist: {text}", file=sys.stderr, flush=True)


_FLAGS: Final = {
    "up": _up_flags,
    "attach": _attach_flags,
    "submit": _submit_flags,
    "status": _status_flags,
    "resume": _resume_flags,
    "drain": _drain_flags,
    "down": _no_flags,
}
_DO: Final = {
    "up": _up,
    "attach": _attach,
    "submit": _submit,
    "status": _status,
    "savepoint": _savepoint,
    "resume": _resume,
    "drain": _drain,
    "down": _down,
}
