"""The Cloud SDK's Pub/Sub emulator on loopback, where it is installed."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from models.errors import DeploymentError
from pipeline.cluster.processes import free_port

#: What its clients are told by; the same name is Google's.
EMULATOR_VARIABLE: Final = "PUBSUB_EMULATOR_HOST"
#: Where the SDK puts the jar, below its own root.
_JAR: Final = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0


def emulator_command(port: int) -> list[str]:
    """What starts it on a port of loopback; empty where the SDK, its emulator or Java is not installed."""
    gcloud = shutil.which("gcloud")
    roots = [os.environ.get("CLOUDSDK_ROOT_DIR", ""), gcloud and str(Path(gcloud).resolve().parents[1])]
    jars = [jar for root in roots if root for jar in glob.glob(f"{root}/{_JAR}")]
    if not jars or not shutil.which("java"):
        return []
    return ["java", "-Xmx512m", "-jar", jars[0], "--host=127.0.0.1", f"--port={port}"]


@contextmanager
def running_emulator(log: Path) -> Iterator[str]:
    """Its HOST:PORT, which the environment of this process names meanwhile; it ends with us at the latest.

    Raises DeploymentError where it is not installed or does not start.
    """
    port = free_port()
    command = emulator_command(port)
    if not command:
        raise DeploymentError("the Cloud SDK's Pub/Sub emulator and Java are not both installed")
    if setpriv := shutil.which("setpriv"):  # should we be killed
        command = [setpriv, "--pdeathsig", "KILL", *command]
    with log.open("ab") as out:
        # A session of its own: a Ctrl-C is for us, who still drain with its help.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    before = os.environ.get(EMULATOR_VARIABLE)
    try:
        _await_listening(process, port, log)
        os.environ[EMULATOR_VARIABLE] = f"127.0.0.1:{port}"
        yield os.environ[EMULATOR_VARIABLE]
    finally:
        os.environ.pop(EMULATOR_VARIABLE, None)
        if before is not None:
            os.environ[EMULATOR_VARIABLE] = before
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.1)
    told = log.read_text(errors="replace").strip().splitlines()
    why = told[-1] if told else f"it did not listen within {_START_SECONDS:g} s"
    raise DeploymentError(f"the Pub/Sub emulator did not start: {why}")


if __name__ == "__main__":
    sys.exit(0 if emulator_command(1) else 1)
