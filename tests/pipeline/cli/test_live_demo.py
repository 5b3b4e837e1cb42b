"""The live demo: by the Pub/Sub emulator where one is installed, else in a folder; nothing stays behind."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from pipeline.pubsub_emulator import emulator_command
from tests.pipeline.live.runs import launched
from tests.servers.processes import listens

_LAST_LINE = re.compile(r"freshness p50=[\d.]+ p95=[\d.]+ p99=[\d.]+\n\Z")


def demo(seconds: float) -> list[str]:
    start = "import sys; from pipeline.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", start, "live-demo", "--seconds", str(seconds), "--rate", "20"]


def test_without_an_emulator_feedback_comes_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLOUDSDK_ROOT_DIR", raising=False)
    job = launched(demo(4))
    out, err = job.communicate(timeout=180)
    assert job.returncode == 0, err
    assert "feedback comes in a folder that grows (the Cloud SDK's Pub/Sub emulator" in out
    assert _LAST_LINE.search(out), out[-300:]


@pytest.mark.java
def test_the_emulator_carries_the_feedback_and_ends_with_an_interrupted_demo(tmp_path: Path) -> None:
    pytest.importorskip("google.cloud.pubsub_v1", reason="the gcp extra is missing: make test-all")
    if not emulator_command(1):
        pytest.skip("the Cloud SDK's Pub/Sub emulator is not installed")
    job = launched([*demo(600), "--output", str(tmp_path / "out")])
    assert job.stdout is not None
    first = job.stdout.readline()
    found = re.search(r"through the Pub/Sub emulator at 127\.0\.0\.1:(\d+)", first)
    assert found, first
    assert listens(int(found[1]))
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out" / "recommendations_latest").glob("*.parquet")):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.2)
    time.sleep(3)  # of events
    os.killpg(job.pid, signal.SIGINT)
    out, err = job.communicate(timeout=120)
    assert job.returncode == 0, err
    assert _LAST_LINE.search(out), out[-300:]
    assert not listens(int(found[1])), "the emulator goes on"
