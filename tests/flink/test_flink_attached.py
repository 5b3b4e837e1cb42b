"""A cluster that others keep: jobs are submitted to it from another folder, and tended there."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import DeploymentError, UsageError
from pipeline.cli.main import main
from pipeline.cluster.attached import attach
from pipeline.cluster.cluster import running_processes
from pipeline.cluster.processes import free_port
from pipeline.cluster.settings import ClusterSettings, load_settings
from tests.flink.harness import Scenario, assert_equals_oracle, hard_log
from tests.flink.waiting import await_that

pytestmark = [pytest.mark.flink]
_COMMAND = "import sys; from pipeline.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def kept(settings: ClusterSettings) -> ClusterSettings:
    """Stands for one on Kubernetes; `attach` knows its addresses and its folders alone."""
    return settings


def flags_of(kept: ClusterSettings) -> list[str]:
    return [
        f"--rest={kept.at.rest}",
        f"--job_server={kept.at.jobs}",
        f"--artifacts={kept.at.artifacts}",
        f"--workers={kept.at.workers}",
        f"--checkpoints={kept.checkpoints}",
        f"--savepoints={kept.savepoints}",
        "--checkpoint_seconds=2",
    ]


@contextmanager
def attached(kept: ClusterSettings, folder: Path) -> Iterator[ClusterSettings]:
    """`livelist flink attach` in a process of its own, let go by SIGTERM."""
    command = [sys.executable, "-c", _COMMAND, "flink", "attach", f"--cluster={folder}", *flags_of(kept)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"attached to {kept.rest}")
            yield load_settings(folder)
        finally:
            process.send_signal(signal.SIGTERM)
            told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert told.startswith("let go; jobs go on")
    assert not running_processes(folder)


def test_a_job_goes_on_while_nobody_is_attached_and_is_tended_by_who_comes_back(
    kept: ClusterSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    with attached(kept, folder) as settings:
        scenario = Scenario(settings, tmp_path / "job", "elsewhere", hard_log(21), {"parallelism": 2})
        scenario.write(0.5)
        scenario.start()
        before = scenario.await_rows()
        assert main(["flink", "status", f"--cluster={folder}"]) == 0
    with pytest.raises(UsageError, match=r"nobody keeps the cluster in .*: `livelist flink attach`"):
        scenario.start()
    scenario.write(0.8)
    with attached(kept, folder):
        scenario.await_rows(before)
        assert main(["flink", "savepoint", f"--cluster={folder}", "--name=elsewhere"]) == 0
        found = list(kept.savepoints.glob("savepoint-*"))
        assert len(found) == 1
        scenario.start(found[0].as_uri())
        scenario.write(1.0)
        scenario.finish()
    assert_equals_oracle(scenario)
    assert all(running_processes(kept.root).values()), "the cluster is others'"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rest": "http://127.0.0.1:{port}"}, "does not answer"),
        ({"jobs": "127.0.0.1:{port}"}, "--job_server 127.0.0.1:{port}: expected HOST:PORT of a server"),
        ({"artifacts": "nowhere"}, "--artifacts nowhere: expected HOST:PORT of a server"),
        ({"checkpoints": "/not/here"}, "--checkpoints /not/here: not mounted here"),
    ],
)
def test_what_is_not_there_is_told_before_anything_starts(
    kept: ClusterSettings, tmp_path: Path, wrong: dict[str, str], told: str
) -> None:
    port = free_port()
    given = {name: value.format(port=port) for name, value in wrong.items()}
    with pytest.raises(DeploymentError, match=told.format(port=port)):
        attach(tmp_path / "here", replace(kept.at, **given), 2.0)
    assert not (tmp_path / "here").exists()


def test_a_folder_that_is_attached_already_is_not_attached_twice(
    kept: ClusterSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "here"
    with attached(kept, folder):
        await_that(lambda: any(running_processes(folder).values()))
        assert main(["flink", "attach", f"--cluster={folder}", *flags_of(kept)]) == 2
    assert "runs in" in capsys.readouterr().err
