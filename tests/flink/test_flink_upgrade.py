"""A savepoint of one version, restored by the next: its states are found, its lists made by the new code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cluster.cluster import down
from pipeline.cluster.settings import load_settings
from tests.flink.harness import K, Scenario, hard_log, need_flink
from tests.oracle import current_lists
from tests.pipeline.live.feedback_log import ITEMS, Event

pytestmark = [pytest.mark.flink]
_ROOT = Path(__file__).parents[2]
_COMMAND = "import sys; from pipeline.cli.main import main; sys.exit(main(sys.argv[1:]))"
_ORACLE = (
    "import json, sys; from pathlib import Path; from models.ranking.index import read_pointer; "
    "from tests.oracle import expected_lists; output, inputs, k = sys.argv[1:]; "
    "print(json.dumps(expected_lists(read_pointer(Path(output)), [Path(inputs)], int(k))))"
)


@pytest.fixture(autouse=True)
def _has_flink() -> None:
    need_flink()


@pytest.fixture
def new_code(tmp_path: Path) -> Path:
    """These packages, but for the words of one reason: the workers' own code, which no flag tells them."""
    tree = tmp_path / "new_code"
    for package in ("models", "transforms", "pipeline", "tests"):
        shutil.copytree(_ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    reasons = tree / "models" / "ranking" / "reasons.py"
    before = reasons.read_text()
    reasons.write_text(before.replace('"Many people like it"', '"Liked by many"'))
    assert reasons.read_text() != before
    return tree


def python(tree: Path, script: str, *arguments: str) -> str:
    """Runs a script on the packages of a tree; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def last_words(events: list[Event]) -> list[Event]:
    """One more event of everybody, behind all others."""
    users = sorted({event["user_id"] for event in events if "user_id" in event})
    newest = max(float(event["event_time"]) for event in events)
    return [
        {
            "event_id": f"last-{user}",
            "user_id": user,
            "kind": "view",
            "event_time": newest + 60,
            "item_id": ITEMS[number % len(ITEMS)],
        }
        for number, user in enumerate(users)
    ]


def test_new_code_goes_on_from_the_savepoint_of_the_old(tmp_path: Path, new_code: Path) -> None:
    folder, cluster = tmp_path / "cluster", ["--cluster", str(tmp_path / "cluster")]
    up = ["flink", "up", *cluster, "--rest_port", "0", "--heap_mb", "384", "--checkpoint_seconds", "2"]
    events = [event for event in hard_log(17) if event["event_id"] != "no-user"]
    python(_ROOT, _COMMAND, *up)
    try:
        last = last_words(events)
        scenario = Scenario(load_settings(folder), tmp_path / "job", "livelist", [*events, *last])
        scenario.write(len(events) / len(scenario.events))
        job = ["--input", str(scenario.inputs), "--output", str(scenario.output), "--k", str(K)]
        job += ["--model", "none", "--reindex_every_seconds", "0", "--snapshot_every_seconds", "1"]
        python(_ROOT, _COMMAND, "flink", "submit", *cluster, *job)
        scenario.await_rows()
        scenario.await_accounted()
        python(_ROOT, _COMMAND, "flink", "savepoint", *cluster)
        down(folder)
        python(new_code, _COMMAND, *up)
        python(new_code, _COMMAND, "flink", "resume", *cluster)
        scenario.write(1.0)
        python(new_code, _COMMAND, "flink", "drain", *cluster)
    finally:
        down(folder)
    told = [str(scenario.output), str(scenario.inputs), str(K)]
    found = json.loads(json.dumps(current_lists(scenario.output)))
    assert found == json.loads(python(new_code, _ORACLE, *told)), "the lists are those of the new code"
    assert found != json.loads(python(_ROOT, _ORACLE, *told)), "the new code makes other lists"
