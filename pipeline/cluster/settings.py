"""What a cluster on this machine looks like, and the files that its processes are told it by."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import yaml

from models.errors import DeploymentError, UsageError
from pipeline.cluster.processes import free_port

_SAVED: Final = "cluster.json"
_LOG4J: Final = """\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = Console
appender.out.name = Console
appender.out.type = CONSOLE
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1} %m%n
"""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a cluster answers, and where it leaves states; it may be one that others keep."""

    rest: str  # URL of Flink's REST interface
    jobs: str  # HOST:PORT of Beam's job server
    artifacts: str  # HOST:PORT of what it stages
    workers: str  # HOST:PORT of the pool of Python workers, as each task manager reaches its own
    checkpoints: str  # folder that this machine and all of the cluster share, as is the next
    savepoints: str


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """One cluster: where it keeps its files, how large it is, on which ports of loopback it listens.

    Of one that is kept elsewhere the folder is this machine's part of it: its jobs' files, which all share.
    """

    folder: str
    task_managers: int
    slots: int  # of each task manager
    heap_mb: int  # of each task manager
    checkpoint_seconds: float
    rest_port: int
    rpc_port: int
    zookeeper_port: int
    job_port: int
    artifact_port: int
    pool_port: int
    classpath: str
    job_server: str
    official: bool
    java: str
    elsewhere: Addresses | None = None

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.folder)

    @property
    def at(self) -> Addresses:
        """Where it answers and leaves states: elsewhere, or on loopback and in its folder."""
        return self.elsewhere or Addresses(
            rest=f"http://127.0.0.1:{self.rest_port}",
            jobs=f"127.0.0.1:{self.job_port}",
            artifacts=f"127.0.0.1:{self.artifact_port}",
            workers=f"127.0.0.1:{self.pool_port}",
            checkpoints=str(self.root / "checkpoints"),
            savepoints=str(self.root / "savepoints"),
        )

    @property
    def checkpoints(self) -> Path:
        """Where the state is kept."""
        return Path(self.at.checkpoints)

    @property
    def savepoints(self) -> Path:
        """Where a stopped job left its state."""
        return Path(self.at.savepoints)

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.root / "logs"

    @property
    def rest(self) -> str:
        """Flink's REST interface and web page."""
        return self.at.rest

    @property
    def remedy(self) -> str:
        """What to do where no process of it runs."""
        action = "attach` lets this folder stand for it again" if self.elsewhere else "up` starts it"
        return f"`livelist flink {action}"

    def save(self) -> None:
        """Writes it where `load_settings` finds it."""
        (self.root / _SAVED).write_text(json.dumps(asdict(self), indent=1) + "\n")


def load_settings(folder: Path) -> ClusterSettings:
    """The settings of the cluster in a folder. Raises UsageError where there is none."""
    try:
        given = json.loads((folder / _SAVED).read_text())
        elsewhere = given.pop("elsewhere", None)
        return ClusterSettings(**given, elsewhere=Addresses(**elsewhere) if elsewhere else None)
    except OSError as error:
        raise UsageError(f"there is no cluster in {folder}: start one with `livelist flink up`") from error
    except (ValueError, TypeError) as error:
        raise DeploymentError(f"{folder / _SAVED} is not one of this version's: delete the folder") from error


def choose_port(name: str, wanted: int = 0) -> int:
    """A free port; raises DeploymentError where the wanted one is taken."""
    try:
        return free_port(wanted)
    except OSError as error:
        raise DeploymentError(
            f"--{name} {wanted} is taken on 127.0.0.1 ({error.strerror}): end what listens there, or pass 0"
        ) from error


def write_flink_files(settings: ClusterSettings) -> None:
    """Makes the folders of a cluster and its processes' configuration. Raises OSError."""
    for folder in (settings.checkpoints, settings.savepoints, settings.logs, settings.root / "conf"):
        folder.mkdir(parents=True, exist_ok=True)
    conf = settings.root / "conf"
    (conf / "config.yaml").write_text(yaml.safe_dump(flink_config(settings)))
    (conf / "log4j.properties").write_text(_LOG4J)
    (conf / "zoo.cfg").write_text(_zookeeper_config(settings))


def flink_config(settings: ClusterSettings) -> dict[str, object]:
    """Flink's own configuration, flat."""
    root = settings.root.resolve()
    ours: dict[str, object] = {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": settings.rpc_port,
        "jobmanager.bind-host": "127.0.0.1",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": settings.rest_port,
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.numberOfTaskSlots": settings.slots,
        "taskmanager.load-balance.mode": "SLOTS",
        "parallelism.default": 1,
        # The classes of the runner are on the classpath; a copy that a job brings must not stand beside them.
        "classloader.resolve-order": "child-first" if settings.official else "parent-first",
        # Watermarks in REST are as old as this, and a drain waits for them.
        "metrics.fetcher.update-interval": 1_000,
        "io.tmp.dirs": str(root / "tmp"),
        "web.upload.dir": str(root / "tmp"),
    }
    return ours | _memory(settings) | _recovery(settings, root)


def _memory(settings: ClusterSettings) -> dict[str, object]:
    return {
        "taskmanager.cpu.cores": float(settings.slots),
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.task.heap.size": f"{settings.heap_mb - 128}m",
        "taskmanager.memory.task.off-heap.size": "64m",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "64m",
        "taskmanager.memory.managed.size": "256m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
    }


def _recovery(settings: ClusterSettings, root: Path) -> dict[str, object]:
    return {
        "state.backend.type": "rocksdb",
        "state.backend.incremental": True,
        "state.checkpoints.dir": (root / "checkpoints").as_uri(),
        "state.savepoints.dir": (root / "savepoints").as_uri(),
        "state.checkpoints.num-retained": 3,
        # A dead process refuses connections, and is told by that within seconds; a slow one is not.
        "heartbeat.interval": 2_000,
        "heartbeat.timeout": 30_000,
        "heartbeat.rpc-failure-threshold": 2,
        "taskmanager.slot.timeout": "60 s",
        "pekko.ask.timeout": "30 s",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "1 s",
        "restart-strategy.exponential-delay.max-backoff": "20 s",
        "restart-strategy.exponential-delay.backoff-multiplier": 1.5,
        "restart-strategy.exponential-delay.reset-backoff-threshold": "1 min",
        # The job outlives its JobManager: a new one finds it here.
        "high-availability.type": "zookeeper",
        "high-availability.zookeeper.quorum": f"127.0.0.1:{settings.zookeeper_port}",
        # As long as a machine may be too busy to answer; a JobManager that died is replaced after it.
        "high-availability.zookeeper.client.session-timeout": 15_000,
        "high-availability.zookeeper.client.connection-timeout": 10_000,
        "high-availability.zookeeper.client.tolerate-suspended-connections": True,
        "high-availability.storageDir": (root / "ha").as_uri(),
        "high-availability.cluster-id": "/livelist",
    }


def _zookeeper_config(settings: ClusterSettings) -> str:
    lines = {
        "dataDir": settings.root.resolve() / "zookeeper",
        "clientPort": settings.zookeeper_port,
        "clientPortAddress": "127.0.0.1",
        "tickTime": 1_000,
        "admin.enableServer": "false",
        "maxClientCnxns": 60,
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def environment(settings: ClusterSettings) -> dict[str, str]:
    """What the cluster's processes see: this tree's packages, and no more than two threads of arithmetic."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    return os.environ | {"PYTHONPATH": path, "FLINK_CONF_DIR": str(settings.root.resolve() / "conf")}
