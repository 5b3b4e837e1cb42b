"""What a cluster is told, and how its processes are kept, without Java."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DeploymentError, UsageError
from pipeline.cluster.checks import flink_checks, java_release
from pipeline.cluster.cluster import ClusterPlan, down, forget_process, keep_process, running_processes
from pipeline.cluster.health import Facts, judge
from pipeline.cluster.jars import _folded, find_java, pathing_jar
from pipeline.cluster.keeper import KEEPER, KEPT, RUNNING
from pipeline.cluster.processes import end, free_port, saved, start
from pipeline.cluster.rest import FlinkRest, root_cause
from pipeline.cluster.settings import (
    ClusterSettings,
    choose_port,
    environment,
    flink_config,
    load_settings,
    write_flink_files,
)
from tests.flink.waiting import await_that

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
FACTS = Facts(1_000.0, "RUNNING", 0.0, 0, "", None, 9, 990.0, 1_000_000, "", 980.0, 985.0)


def settings_in(folder: Path) -> ClusterSettings:
    return ClusterSettings(
        folder=str(folder), task_managers=1, slots=2, heap_mb=512, checkpoint_seconds=3.0,
        rest_port=1, rpc_port=1, zookeeper_port=1, job_port=1, artifact_port=1, pool_port=1,
        classpath="flink.jar", job_server="job.jar", official=False, java="java",
    )  # fmt: skip


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[ClusterSettings]:
    """A cluster of nothing but a keeper."""
    settings = settings_in(tmp_path)
    settings.save()
    command = [sys.executable, "-m", "pipeline.cluster.keeper", str(tmp_path), str(os.getpid())]
    keeper, handle = start(KEEPER, command, settings.logs / "keeper.log", environment(settings))
    keeper.save(tmp_path / RUNNING)
    yield settings
    down(tmp_path)
    handle.wait()


def test_a_killed_process_is_started_again_until_it_is_forgotten(kept: ClusterSettings) -> None:
    keep_process(kept, "sleeper", SLEEPER)
    await_that(lambda: running_processes(kept.root).get("sleeper"))
    first = saved(kept.root / RUNNING)["sleeper"]
    os.kill(first.pid, signal.SIGKILL)
    await_that(lambda: saved(kept.root / RUNNING)["sleeper"] != first)
    second = saved(kept.root / RUNNING)["sleeper"]
    assert second.alive and not first.alive
    forget_process(kept, "sleeper")
    assert not second.alive


def test_going_down_ends_the_keeper_and_all_that_it_kept(kept: ClusterSettings) -> None:
    keep_process(kept, "one", SLEEPER)
    keep_process(kept, "two", SLEEPER)
    await_that(lambda: running_processes(kept.root).keys() >= {"one", "two"})
    processes = list(saved(kept.root / RUNNING).values())
    assert down(kept.root) == len(processes) == 3
    assert not any(process.alive for process in processes)


def test_what_a_killed_keeper_left_behind_goes_down_too(kept: ClusterSettings) -> None:
    keep_process(kept, "one", SLEEPER)
    await_that(lambda: running_processes(kept.root).get("one"))
    processes = saved(kept.root / RUNNING)
    os.kill(processes[KEEPER].pid, signal.SIGKILL)
    down(kept.root)
    assert not any(process.alive for process in processes.values())


def test_the_whole_session_of_a_process_ends_with_it(tmp_path: Path) -> None:
    script = (
        f"import subprocess, time; subprocess.Popen({SLEEPER!r}); print('on', flush=True); time.sleep(600)"
    )
    process, handle = start("parent", [sys.executable, "-c", script], tmp_path / "log")
    await_that((tmp_path / "log").read_text)
    members = [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _group(pid) == process.pid
    ]
    assert len(members) == 2
    end([process], 0.1)
    handle.wait()
    await_that(lambda: not any(Path(f"/proc/{pid}").exists() and _group(pid) for pid in members))


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_a_number_that_was_given_anew_is_not_the_same_process(tmp_path: Path) -> None:
    process, handle = start("sleeper", SLEEPER, tmp_path / "log")
    assert process.alive
    assert not replace(process, born=process.born + 1).alive
    end([process], 0.0)
    handle.wait()


def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DeploymentError, match=f"--rest_port {port} is taken"):
            choose_port("rest_port", port)
    assert free_port() > 0


def test_without_java_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeploymentError, match="apt-get install openjdk"):
        find_java()


def test_a_folder_without_a_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="livelist flink up"):
        load_settings(tmp_path)


def test_a_cluster_without_slots_is_refused() -> None:
    with pytest.raises(UsageError, match="a task manager with a slot"):
        ClusterPlan(slots=0)


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings.save()
    assert load_settings(tmp_path) == settings


def test_flink_is_told_to_keep_state_on_disk_and_to_listen_on_loopback_only(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    write_flink_files(settings)
    told = yaml.safe_load((tmp_path / "conf" / "config.yaml").read_text())
    assert told["state.backend.type"] == "rocksdb"
    assert told["state.checkpoints.dir"] == (tmp_path / "checkpoints").as_uri()
    hosts = {value for key, value in told.items() if key.endswith(("host", "address"))}
    assert hosts == {"127.0.0.1"}
    assert "clientPortAddress=127.0.0.1" in (tmp_path / "conf" / "zoo.cfg").read_text()


@given(st.lists(st.text("abcxyz/.-", min_size=1, max_size=60), max_size=40))
def test_a_folded_manifest_line_unfolds_to_itself(names: list[str]) -> None:
    line = f"Class-Path: {' '.join(names)}"
    folded = _folded(line)
    assert all(len(part.encode()) <= 72 for part in folded.split("\r\n"))
    assert folded.replace("\r\n ", "").removesuffix("\r\n") == line


def test_a_pathing_jar_names_the_others_in_the_given_order(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("b.jar", "a.jar")]
    jar = pathing_jar(tmp_path / "all.jar", names, "some.Main")
    manifest = zipfile.ZipFile(jar).read("META-INF/MANIFEST.MF").decode().replace("\r\n ", "")
    urls = [name.as_uri().replace("file://", "file://localhost") for name in names]
    assert f"Class-Path: {urls[0]} {urls[1]}" in manifest
    assert "Main-Class: some.Main" in manifest


def test_the_root_cause_of_a_stack_trace_is_its_innermost_message() -> None:
    trace = "outer.Error: a\n\tat x\nCaused by: middle.Error: b\n\tat y\nCaused by: inner.Error: c\n\tat z"
    assert root_cause(trace) == "inner.Error: c"
    assert root_cause("") == "no reason given"


def test_the_root_cause_in_a_python_worker_is_its_exception() -> None:
    trace = (
        "java.lang.RuntimeException: Failed to finish remote bundle\n\tat x\n"
        "Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 3: "
        'Traceback (most recent call last):\n  File "a.py", line 1, in setup\n    open_published(root)\n'
        "models.errors.DeploymentError: no item index is published\n\n\tat org.apache.beam.A.b(A.java:1)\n"
        "\t... 3 more"
    )
    assert root_cause(trace) == "models.errors.DeploymentError: no item index is published"


def test_a_cluster_that_does_not_answer_is_an_error_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(DeploymentError, match="does not answer"):
        FlinkRest(f"http://127.0.0.1:{free_port()}").jobs()
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (FACTS, "ok"),
        (replace(FACTS, restarts=2, failed_at=900.0), "ok"),
        (replace(FACTS, state="RESTARTING", restarts=1), "failing"),
        (replace(FACTS, restarts=5, failed_at=995.0, failure="boom"), "failing"),
        (replace(FACTS, restarts=5, failed_at=970.0, failed_lately=3), "failing"),
        (replace(FACTS, restarts=5, failed_at=970.0, failed_lately=2), "ok"),
        (replace(FACTS, restarts=5, failed_at=900.0, failed_lately=3), "ok"),
        (replace(FACTS, checkpoint_at=900.0, checkpoint_failure="No space left"), "failing"),
        (replace(FACTS, read_at=900.0, output_at=800.0), "stalled"),
        (replace(FACTS, read_at=900.0, output_at=None), "stalled"),
        (replace(FACTS, read_at=990.0, output_at=800.0), "ok"),
        (replace(FACTS, read_at=900.0, output_at=901.0), "ok"),
        (replace(FACTS, read_at=900.0, output_at=990.0, unread=7), "stalled"),
        (replace(FACTS, read_at=None, output_at=None, unread=7), "stalled"),
        (replace(FACTS, read_at=990.0, unread=7), "ok"),
        (replace(FACTS, started=980.0, read_at=100.0, unread=7), "ok"),
        (
            replace(FACTS, now=20.0, checkpoints=0, checkpoint_at=None, read_at=1.0, output_at=None),
            "starting",
        ),
        (replace(FACTS, state="UNKNOWN"), "lost"),
        (replace(FACTS, state="FAILED", failure="boom"), "ended"),
    ],
)
def test_a_job_is_judged_by_what_it_does_rather_than_by_its_state(facts: Facts, verdict: str) -> None:
    health = judge(facts)
    assert health.verdict == verdict
    assert health.why


def test_a_job_that_restarts_for_ever_is_failing_even_while_it_is_running() -> None:
    health = judge(replace(FACTS, restarts=7, failed_at=999.0, failure="the model is not there"))
    assert health.verdict == "failing"
    assert "7 restarts" in health.why and "the model is not there" in health.why


def test_a_worker_ends_when_its_pool_is_gone(tmp_path: Path) -> None:
    child = (
        "from pipeline.cluster.processes import end_with_parent; import time\n"
        "end_with_parent(); time.sleep(600)"
    )
    script = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}]); print(child.pid, flush=True)\n"
        "child.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(3)  # its imports
    parent.kill()
    parent.communicate()
    await_that(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_keeper_reads_no_half_written_order(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    keep_process(settings, "one", SLEEPER)
    assert [path.name for path in (tmp_path / KEPT).glob("*.json")] == ["one.json"]


@pytest.mark.parametrize(
    ("shown", "release"),
    [('openjdk version "17.0.15" 2025-04-15', 17), ('java version "1.8.0_402"', 8), ("no such thing", 0)],
)
def test_the_release_of_java_is_read_from_what_it_prints(shown: str, release: int) -> None:
    assert java_release(shown) == release


def test_the_doctor_misses_java_and_maven_where_they_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {check.name: check for check in flink_checks(tmp_path / "cache", tmp_path)}
    assert not found["flink java"].well and not found["job server"].well
    assert found["cluster"].what == "down"


def test_every_container_on_kubernetes_is_unprivileged_and_sees_the_shared_disk() -> None:
    folder = Path(__file__).parents[2] / "deploy" / "flink" / "kubernetes"
    cluster, *deployed, _ = yaml.safe_load_all((folder / "livelist.yaml").read_text())
    gpu = yaml.safe_load((folder / "gpu.yaml").read_text())
    pods = [cluster["spec"][part]["podTemplate"]["spec"] for part in ("jobManager", "taskManager")]
    pods += [each["spec"]["template"]["spec"] for each in deployed]
    pods += [gpu["spec"]["taskManager"]["podTemplate"]["spec"]]
    for pod in pods:
        assert [volume["name"] for volume in pod["volumes"]] == ["shared"]
        for container in pod["containers"]:
            assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/shared"]
            if container["name"] != "flink-main-container":
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
    for pod in pods[:-1]:
        assert pod["securityContext"]["runAsNonRoot"] is True
    workers = gpu["spec"]["taskManager"]["podTemplate"]["spec"]["containers"][1]
    assert workers["resources"]["limits"]["nvidia.com/gpu"] == 1
    ours = flink_config(settings_in(Path("/shared")))
    theirs = cluster["spec"]["flinkConfiguration"]
    for name in ("state.backend.type", "restart-strategy.type", "classloader.resolve-order"):
        assert theirs[name] == ours[name]
