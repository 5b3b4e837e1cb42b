"""Start and stop a standalone Flink cluster on loopback: ZooKeeper, JobManager, TaskManagers, workers.

settings = up(ClusterPlan(Path("out/flink")), print)
...
down(Path("out/flink"))
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import DeploymentError, UsageError
from pipeline.cluster.jars import (
    FlinkHome,
    Jars,
    default_cache,
    fetch,
    find_java,
    java_flags,
    pathing_jar,
)
from pipeline.cluster.keeper import KEEPER, KEPT, RUNNING
from pipeline.cluster.processes import end, listening, saved, start
from pipeline.cluster.rest import FlinkRest
from pipeline.cluster.settings import (
    ClusterSettings,
    choose_port,
    environment,
    load_settings,
    write_flink_files,
)

DEFAULT_FOLDER: Final = Path("out/flink")
#: The task managers' processes, and Flink's names of them, are this and a number from 1.
TASK_MANAGER: Final = "taskmanager-"
_START_SECONDS: Final = 300.0
_JOB_MANAGER_MB: Final = 512
_JOB_SERVER_MB: Final = 384
_ZOOKEEPER_MB: Final = 96

Say = Callable[[str], None]

_keepers: Final[dict[int, subprocess.Popen[bytes]]] = {}  # that this process started


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What is asked of `up`. Ports of 0 are chosen."""

    folder: Path = DEFAULT_FOLDER
    task_managers: int = 2
    slots: int = 2
    heap_mb: int = 512
    checkpoint_seconds: float = 3.0
    state_cache_mb: int = 64
    rest_port: int = 8081
    cache: Path | None = None
    jars: Jars = "auto"
    parent: int | None = None  # the cluster ends with this process
    nice: int = 0

    def __post_init__(self) -> None:
        if min(self.task_managers, self.slots) < 1 or self.heap_mb < 256 or self.checkpoint_seconds <= 0:
            raise UsageError(
                "a cluster needs a task manager with a slot, 256 MB of heap and a checkpoint interval above "
                f"0, got {self.task_managers}, {self.slots}, {self.heap_mb} and {self.checkpoint_seconds:g}"
            )


def up(plan: ClusterPlan, say: Say) -> ClusterSettings:
    """Starts a cluster, and returns when its task managers are registered.

    A cluster that was stopped in this folder comes back with its jobs' checkpoints and savepoints.
    Raises UsageError where one runs there, DeploymentError where something is missing or does not start.
    """
    refuse_running(plan.folder)
    java = find_java()
    home = fetch(plan.cache or default_cache(), say, plan.jars)
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        settings = _settings(plan, java, home)
        _clear(settings)
        write_flink_files(settings)
        pathing_jar(Path(settings.classpath), home.cluster)
        (plan.folder / "conf" / "java.flags").write_text("\n".join(java_flags()) + "\n")
        settings.save()
        _keep_processes(settings, plan)
    except OSError as error:
        raise DeploymentError(f"{plan.folder} cannot be written: {error.strerror or error}") from error
    start_keeper(settings, plan.parent, plan.nice)
    say("starting ZooKeeper, JobManager, task managers, workers and the job server")
    try:
        _await_cluster(settings)
    except BaseException:
        down(plan.folder)
        raise
    return settings


def start_keeper(settings: ClusterSettings, parent: int | None, nice: int = 0) -> None:
    """Has a process keep what `keep_process` names, until `down`, or the end of the parent."""
    command = [sys.executable, "-m", "pipeline.cluster.keeper", settings.folder]
    if parent is not None:
        command.append(str(parent))
    if nice:
        command = ["nice", "-n", str(nice), *command]
    keeper, handle = start(KEEPER, command, settings.logs / "keeper.log", environment(settings))
    _keepers[keeper.pid] = handle
    keeper.save(settings.root / RUNNING)


def down(folder: Path) -> int:
    """Ends every process of a cluster; returns how many there were. The state on disk stays."""
    load_settings(folder)
    processes = saved(folder / RUNNING)
    running = sum(process.alive for process in processes.values())
    keeper = processes.pop(KEEPER, None)
    if keeper is not None:
        end([keeper], 30.0)
        if (handle := _keepers.pop(keeper.pid, None)) is not None:
            handle.wait()  # leaves no zombie
    end(list(saved(folder / RUNNING).values()), 1.0)  # where the keeper was killed
    shutil.rmtree(folder / RUNNING, ignore_errors=True)
    return running


def running_processes(folder: Path) -> dict[str, bool]:
    """The processes of a cluster by name, and whether each runs."""
    return {name: process.alive for name, process in saved(folder / RUNNING).items()}


def keep_process(settings: ClusterSettings, name: str, command: list[str]) -> None:
    """Lets the keeper run a process until `forget_process`."""
    kept = settings.root / KEPT
    kept.mkdir(parents=True, exist_ok=True)
    partial = kept / f".{name}.partial"
    partial.write_text(json.dumps({"command": command}))
    os.replace(partial, kept / f"{name}.json")


def forget_process(settings: ClusterSettings, name: str, seconds: float = 30.0) -> None:
    """Lets the keeper end a process; returns when it has."""
    (settings.root / KEPT / f"{name}.json").unlink(missing_ok=True)
    deadline = time.monotonic() + seconds
    while name in saved(settings.root / RUNNING) and time.monotonic() < deadline:
        time.sleep(0.1)


def refuse_unkept(settings: ClusterSettings) -> None:
    """Raises UsageError where nobody would start what tends a job, nor start it again."""
    if not running_processes(settings.root).get(KEEPER):
        raise UsageError(f"nobody keeps the cluster in {settings.root}: {settings.remedy}")


def refuse_running(folder: Path) -> None:
    """Raises UsageError where a process of a cluster runs."""
    if any(running_processes(folder).values()):
        raise UsageError(
            f"a cluster runs in {folder} already: `livelist flink down --cluster {folder}` ends it"
        )


def _clear(settings: ClusterSettings) -> None:
    """What belongs to the processes of before; a job that they ran is resumed by hand."""
    for name in (KEPT, RUNNING, "zookeeper", "ha", "tmp"):
        shutil.rmtree(settings.root / name, ignore_errors=True)
    (settings.root / "tmp").mkdir(parents=True)


def _settings(plan: ClusterPlan, java: str, home: FlinkHome) -> ClusterSettings:
    return ClusterSettings(
        folder=str(plan.folder.resolve()),
        task_managers=plan.task_managers,
        slots=plan.slots,
        heap_mb=plan.heap_mb,
        checkpoint_seconds=plan.checkpoint_seconds,
        rest_port=choose_port("rest_port", plan.rest_port),
        rpc_port=choose_port("rpc_port"),
        zookeeper_port=choose_port("zookeeper_port"),
        job_port=choose_port("job_port"),
        artifact_port=choose_port("artifact_port"),
        pool_port=choose_port("pool_port"),
        # One jar that names the others: a process list stays readable.
        classpath=str(plan.folder.resolve() / "conf" / "flink.jar"),
        job_server=str(home.job_server),
        official=home.official,
        java=java,
    )


def _keep_processes(settings: ClusterSettings, plan: ClusterPlan) -> None:
    conf = str(settings.root / "conf")
    keep_process(
        settings,
        "zookeeper",
        [*_java(settings, _ZOOKEEPER_MB), _ZOOKEEPER, "--zkConfigFile", f"{conf}/zoo.cfg", "--peerId", "1"],
    )
    keep_process(
        settings,
        "jobmanager",
        [*_java(settings, _JOB_MANAGER_MB), _JOB_MANAGER, "--configDir", conf],
    )
    direct = "-XX:MaxDirectMemorySize=256m"
    for number in range(1, settings.task_managers + 1):
        name = f"{TASK_MANAGER}{number}"
        java = _java(settings, settings.heap_mb, direct)
        # A task manager that comes back under its old name is known at once to have died.
        known_as = ["-D", f"taskmanager.resource-id={name}"]
        keep_process(settings, name, [*java, _TASK_MANAGER, "--configDir", conf, *known_as])
    pool = [sys.executable, "-m", "pipeline.cluster.worker_pool", str(settings.pool_port), str(settings.logs)]
    keep_process(settings, "worker-pool", [*pool, str(plan.state_cache_mb)])
    keep_process(settings, "job-server", _job_server(settings))


_ZOOKEEPER: Final = "org.apache.flink.runtime.zookeeper.FlinkZooKeeperQuorumPeer"
_JOB_MANAGER: Final = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER: Final = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"


def _java(settings: ClusterSettings, heap_mb: int, *flags: str) -> list[str]:
    log4j = f"-Dlog4j.configurationFile=file:{settings.root}/conf/log4j.properties"
    heap = [f"-Xmx{heap_mb}m", f"-Xms{min(heap_mb, 128)}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return [
        settings.java,
        *heap,
        *flags,
        f"@{settings.root}/conf/java.flags",
        log4j,
        "-cp",
        settings.classpath,
    ]


def _job_server(settings: ClusterSettings) -> list[str]:
    jvm = [settings.java, f"-Xmx{_JOB_SERVER_MB}m", "-XX:+UseSerialGC", f"@{settings.root}/conf/java.flags"]
    return [
        *jvm,
        "-jar",
        settings.job_server,
        f"--flink-master=127.0.0.1:{settings.rest_port}",
        "--job-host=127.0.0.1",
        f"--job-port={settings.job_port}",
        f"--artifact-port={settings.artifact_port}",
        "--expansion-port=0",
        f"--artifacts-dir={settings.root / 'artifacts'}",
    ]


def _await_cluster(settings: ClusterSettings) -> None:
    rest = FlinkRest(settings.rest)
    deadline = time.monotonic() + _START_SECONDS
    registered = 0
    while time.monotonic() < deadline:
        try:
            registered = len(rest.task_managers())
        except DeploymentError:
            registered = 0
        ports = listening(settings.job_port) and listening(settings.pool_port)
        if registered >= settings.task_managers and ports:
            return
        time.sleep(0.3)
    died = [name for name, runs in running_processes(settings.root).items() if not runs]
    told = f"; {', '.join(died)} ended" if died else ""
    raise DeploymentError(
        f"the cluster was not up within {_START_SECONDS:.0f} s ({registered} of {settings.task_managers} "
        f"task managers{told}): see {settings.logs}"
    )
