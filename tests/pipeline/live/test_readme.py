"""The README's commands that try a broker, as they are printed."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import processes

ROOT = Path(__file__).parents[3]
_SECONDS = 600.0


def commands(broker: str) -> str:
    """The block under the broker's mark."""
    block = rf"^<!-- try {broker} -->\n```sh\n(.*?)^```$"
    found = re.search(block, (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def fetched(broker: str, folder: Path) -> None:
    """Skips where this machine cannot have the broker, and has its program fetched or built where it can."""
    client = {"kafka": "confluent_kafka", "pubsub": "google.cloud.pubsub_v1"}[broker]
    pytest.importorskip(client, reason=f"{client} is missing: make test-all")
    server = importlib.import_module(f"tests.servers.{broker}")
    try:
        server.fetch_jars() if broker == "kafka" else server.PubsubServer(folder)
    except processes.ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.java
@pytest.mark.parametrize("broker", ["kafka", "pubsub"])
def test_a_broker_is_tried_by_the_commands_of_the_readme(broker: str, tmp_path: Path) -> None:
    fetched(broker, tmp_path)
    printed = commands(broker)
    for found, instead in {"--run_for_seconds 30": "--run_for_seconds 4", "out/": f"{tmp_path}/out/"}.items():
        assert found in printed
        printed = printed.replace(found, instead)
    printed = printed.replace("mkdir -p out\n", f"mkdir -p {tmp_path}/out\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    told = tmp_path / "told"
    with (
        told.open("w") as out,
        subprocess.Popen(
            ["bash", "-eu", "-c", f"{printed}wait || true"],
            cwd=ROOT,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        ) as shell,
    ):
        try:
            code = shell.wait(_SECONDS)
        finally:
            left = _end(shell.pid)
    said = told.read_text()
    assert code == 0, said
    assert "500 messages sent" in said and "500 read = " in said
    assert re.search(r"^ *1 +\d+", said, re.MULTILINE), f"no list: {said}"
    assert not left, "the broker goes on"


def _end(group: int) -> bool:
    """Ends what is left of a session; tells whether anything was."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
