"""A job on a real cluster of several processes, killed and moved while it works, against the oracle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import UsageError
from pipeline.cluster.cluster import running_processes
from pipeline.cluster.keeper import RUNNING
from pipeline.cluster.processes import saved
from pipeline.cluster.settings import ClusterSettings
from pipeline.flink.submit import newest_state, savepoint
from tests.flink.harness import (
    Scenario,
    assert_equals_oracle,
    busy_task_manager,
    cluster,
    hard_log,
    kill,
    kill_python_worker,
)
from tests.flink.waiting import await_that

pytestmark = [pytest.mark.flink]


def kill_task_manager(settings: ClusterSettings) -> None:
    kill(settings, busy_task_manager(settings))


def kill_job_manager(settings: ClusterSettings) -> None:
    kill(settings, "jobmanager")


FAULTS = {
    "task manager": kill_task_manager,
    "Python worker": kill_python_worker,
    "JobManager": kill_job_manager,
}


def test_lists_survive_the_death_of_each_process_and_a_savepoint(
    settings: ClusterSettings, tmp_path: Path
) -> None:
    """One job, 30% of its log delivered twice and hours out of order; each fault after a checkpoint."""
    scenario = Scenario(settings, tmp_path / "job", "faults", hard_log(), {"parallelism": 2})
    scenario.write(0.3)
    scenario.start()
    scenario.await_rows()
    for number, (name, strike) in enumerate(FAULTS.items()):
        strike_and_recover(scenario, name, strike, share=0.4 + 0.1 * number)
    path = savepoint(settings, scenario.name)
    assert path.startswith("file:")
    scenario.write(0.8)
    before = scenario.rows("recommendations")
    scenario.start(path, parallelism=1)
    scenario.await_rows(before)
    scenario.write(1.0)
    scenario.finish()
    assert_equals_oracle(scenario)


def strike_and_recover(
    scenario: Scenario, name: str, strike: Callable[[ClusterSettings], None], share: float
) -> None:
    scenario.await_checkpoint()
    before = scenario.rows("recommendations")
    strike(scenario.settings)
    scenario.write(share)
    scenario.await_checkpoint()
    scenario.await_rows(before)
    assert scenario.status().facts.state == "RUNNING", f"after the death of a {name}"


def test_a_job_whose_cluster_went_down_resumes_from_its_last_checkpoint(
    settings: ClusterSettings, tmp_path: Path
) -> None:
    from pipeline.flink.submit import cancel, load_job

    scenario = Scenario(settings, tmp_path / "job", "resumed", hard_log(11))
    scenario.write(0.5)
    scenario.start()
    scenario.await_rows()
    scenario.await_checkpoint()
    cancel(settings, scenario.name)
    scenario.write(1.0)
    scenario.start(newest_state(settings, load_job(settings, scenario.name)))
    scenario.finish()
    assert_equals_oracle(scenario)


def test_a_drain_folds_what_a_hung_steward_has_left(settings: ClusterSettings, tmp_path: Path) -> None:
    scenario = Scenario(settings, tmp_path / "job", "hung", hard_log(14))
    scenario.write(0.5)
    scenario.start()
    scenario.await_rows()
    os.kill(saved(settings.root / RUNNING)["job-hung"].pid, signal.SIGSTOP)
    scenario.write(1.0)
    scenario.finish()
    assert_equals_oracle(scenario)


def test_the_state_of_a_job_that_only_waits_does_not_grow(settings: ClusterSettings, tmp_path: Path) -> None:
    """One state a bundle of the source, as Beam's own reading has it there, would triple it meanwhile."""
    scenario = Scenario(settings, tmp_path / "job", "waits", hard_log(16)[:40])
    scenario.write(1.0)
    scenario.start()
    scenario.await_accounted()
    scenario.await_checkpoint()
    before = scenario.status().facts.checkpoint_bytes
    time.sleep(45)
    assert scenario.status().facts.checkpoint_bytes < 1.5 * before
    scenario.finish()
    assert_equals_oracle(scenario)


def test_a_second_job_of_that_name_and_one_too_wide_are_refused(
    settings: ClusterSettings, tmp_path: Path
) -> None:
    scenario = Scenario(settings, tmp_path / "job", "twice", hard_log(12)[:20])
    with pytest.raises(UsageError, match="free slots"):
        scenario.start(parallelism=64)
    scenario.write(1.0)
    scenario.start()
    with pytest.raises(UsageError, match="runs on this cluster already"):
        scenario.start()
    scenario.finish()


def test_a_full_checkpoint_disk_is_told_as_failing(settings: ClusterSettings, tmp_path: Path) -> None:
    scenario = Scenario(settings, tmp_path / "job", "full", hard_log(13)[:40])
    scenario.write(0.5)
    scenario.start()
    scenario.await_rows()
    scenario.await_checkpoint()
    aside = settings.checkpoints.with_name("aside")
    settings.checkpoints.rename(aside)
    settings.checkpoints.write_text("a file where the folder was takes nothing more, like a full disk")
    try:
        _await_verdict(scenario, "failing")
    finally:
        settings.checkpoints.unlink()
        aside.rename(settings.checkpoints)
    _await_verdict(scenario, "ok")
    scenario.finish()


def _await_verdict(scenario: Scenario, verdict: str) -> None:
    await_that(lambda: scenario.status().health.verdict == verdict, 180)


def test_nothing_is_left_when_a_cluster_goes_down(settings: ClusterSettings, tmp_path: Path) -> None:
    with cluster(tmp_path / "other", task_managers=1, slots=1) as other:
        assert all(running_processes(other.root).values())
    assert not running_processes(tmp_path / "other")


def test_a_job_that_restarts_for_ever_is_told_as_failing_and_goes_on_when_the_cause_is_mended(
    settings: ClusterSettings, tmp_path: Path
) -> None:
    """No item index is found when a new worker asks for it, at the first feedback that it gets."""
    scenario = Scenario(settings, tmp_path / "job", "restarts", hard_log(15)[:40])
    scenario.write(0.5)
    scenario.start()
    scenario.await_rows()
    scenario.await_checkpoint()
    index, aside = scenario.output / "index", scenario.output / "aside"
    index.rename(aside)
    try:
        kill_python_worker(settings)
        scenario.write(0.8)
        await_that(lambda: _restarts_for_ever(scenario), 240)
    finally:
        aside.rename(index)
    _await_verdict(scenario, "ok")
    scenario.write(1.0)
    scenario.finish()
    assert_equals_oracle(scenario)


def _restarts_for_ever(scenario: Scenario) -> bool:
    """Told so while Flink itself says that it runs."""
    status = scenario.status()
    running = status.facts.state == "RUNNING" and status.facts.restarts >= 3
    return running and status.health.verdict == "failing" and "no item index" in status.health.why
