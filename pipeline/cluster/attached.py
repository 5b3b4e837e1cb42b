"""A Flink cluster that others keep, Kubernetes say: jobs are submitted to it from here, and tended here.

attach(Path("/shared/livelist"), Addresses("http://livelist-rest:8081", ...), checkpoint_seconds=3.0)
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Final

from models.errors import DeploymentError
from pipeline.cluster.cluster import refuse_running, start_keeper
from pipeline.cluster.keeper import RUNNING
from pipeline.cluster.rest import FlinkRest
from pipeline.cluster.settings import Addresses, ClusterSettings

_CONNECT_SECONDS: Final = 10.0


def attach(folder: Path, elsewhere: Addresses, checkpoint_seconds: float) -> ClusterSettings:
    """Lets `folder` stand for a cluster that others keep: jobs are submitted from here, and tended here.

    What tends the jobs that were submitted before is started again. It ends with this process, and the jobs
    go on. Raises UsageError where something runs in the folder, DeploymentError where the cluster does not
    answer or its folders are not here.
    """
    refuse_running(folder)
    FlinkRest(elsewhere.rest).task_managers()
    for flag, address in (("job_server", elsewhere.jobs), ("artifacts", elsewhere.artifacts)):
        _refuse_silent(flag, address)
    for flag, shared in (("checkpoints", elsewhere.checkpoints), ("savepoints", elsewhere.savepoints)):
        if not Path(shared).parent.is_dir():  # Flink makes the folder itself with its first checkpoint
            raise DeploymentError(f"--{flag} {shared}: not mounted here; mount what the cluster writes to")
    settings = ClusterSettings(
        folder=str(folder.resolve()), checkpoint_seconds=checkpoint_seconds, elsewhere=elsewhere,
        task_managers=0, slots=0, heap_mb=0, rest_port=0, rpc_port=0, zookeeper_port=0, job_port=0,
        artifact_port=0, pool_port=0, classpath="", job_server="", official=False, java="",
    )  # fmt: skip
    try:
        settings.logs.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / RUNNING, ignore_errors=True)
        settings.save()
    except OSError as error:
        raise DeploymentError(f"{folder} cannot be written: {error.strerror or error}") from error
    start_keeper(settings, parent=os.getpid())
    return settings


def _refuse_silent(flag: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise DeploymentError(f"--{flag} {address}: expected HOST:PORT of a server, got {error}") from error
