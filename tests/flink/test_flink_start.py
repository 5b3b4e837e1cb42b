"""How a job on a cluster starts, learns its index and ends, as far as that needs no cluster."""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from models.errors import DeploymentError, UsageError
from models.ranking.index import ItemIndex, read_pointer
from pipeline.cli import flink as command
from pipeline.cli.main import main
from pipeline.cli.parsing import CommandParser
from pipeline.cluster.processes import free_port
from pipeline.cluster.settings import ClusterSettings
from pipeline.config import JobConfig
from pipeline.flink.behaviour import views_of_tables
from pipeline.flink.index import IndexLearner, learn_from_log
from pipeline.flink.job import check_flink
from pipeline.flink.plan import FlinkPlan
from pipeline.flink.source import ALL_READ, DRAIN
from pipeline.flink.steward import CONFIG
from pipeline.flink.submit import (
    FlinkJob,
    _save,
    absolute,
    drain,
    job_folder,
    load_job,
    newest_state,
    savepoint,
)
from tests.flink.test_cluster import settings_in
from tests.flink.waiting import await_that
from tests.pipeline.live.feedback_log import START, Event, run, shop_log, write_log

PULLED = "kafka://127.0.0.1:9092/t?group=g"


def tables(folder: Path, events: list[Event]) -> JobConfig:
    """A job that pulls, whose tables are those of a run over the events; no index stands there."""
    run(folder / "out", write_log(folder / "log.jsonl", events), model="none")
    for path in sorted((folder / "out" / "index").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return JobConfig(inputs=(PULLED,), output=str(folder / "out"), model="none")


def ids_of(index: ItemIndex) -> list[str]:
    return [index.item_ids[place] for place in range(index.items)]


def test_an_index_of_the_tables_knows_the_behaviour_that_one_of_the_log_knows(tmp_path: Path) -> None:
    config = tables(tmp_path, shop_log())
    of_tables = ItemIndex.open(learn_from_log(config))
    of_log = ItemIndex.open(learn_from_log(replace(config, inputs=(str(tmp_path / "log.jsonl"),))))
    assert ids_of(of_tables) == ids_of(of_log)
    assert of_tables.meta["interactions"] == of_log.meta["interactions"] > 0
    for name in ("popularity", "users"):
        assert np.array_equal(of_tables.arrays[name], of_log.arrays[name]), name


def test_rows_that_stand_twice_count_once_and_who_was_erased_is_not_there(tmp_path: Path) -> None:
    config = tables(tmp_path, shop_log())
    views, clock = views_of_tables(config)
    assert clock > 0 and "user01" in {view.user_id for view in views}
    for part in sorted((tmp_path / "out" / "scored_feedback").glob("*.parquet")):
        part.with_name(f"again-{part.name}").write_bytes(part.read_bytes())
    assert views_of_tables(config) == (views, clock)
    erase = {"event_id": "x", "user_id": "user01", "kind": "erase", "event_time": START + 1_000_000}
    run(tmp_path / "out", write_log(tmp_path / "later.jsonl", [erase]), model="none", if_exists="append")
    left, _ = views_of_tables(config)
    assert {view.user_id for view in left} == {view.user_id for view in views} - {"user01"}


def test_a_job_that_pulls_keeps_a_better_index_of_another_and_replaces_its_own(tmp_path: Path) -> None:
    job, output = tmp_path / "job", tmp_path / "out"
    job.mkdir()
    run(output, write_log(tmp_path / "log.jsonl", shop_log()), model="none")
    others = read_pointer(output)
    config = JobConfig(inputs=(PULLED,), output=str(output), model="none")
    for part in (output / "scored_feedback").glob("*.parquet"):
        part.unlink()
    assert learn_from_log(config, job) == others, "no feedback was pulled yet"
    run(output, write_log(tmp_path / "log.jsonl", shop_log()), model="none")
    own = learn_from_log(config, job)
    assert read_pointer(output) == own
    for part in (output / "scored_feedback").glob("*.parquet"):
        part.unlink()
    assert ItemIndex.open(learn_from_log(config, job)).items == 0, "its own follows what is erased"


def learner(folder: Path, config: JobConfig) -> IndexLearner:
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_bytes(pickle.dumps(("run", config)))
    made = IndexLearner(config, folder / CONFIG, threading.Event())
    made.publish_first()
    return made


@pytest.mark.parametrize("every_seconds", [0.0, 3_600.0])
def test_an_index_without_items_is_learned_anew_as_soon_as_there_is_feedback(
    tmp_path: Path, every_seconds: float
) -> None:
    log = tmp_path / "in" / "events.jsonl"
    log.parent.mkdir()
    config = JobConfig((str(log.parent),), str(tmp_path / "out"), model="none")
    learns = learner(tmp_path / "job", replace(config, reindex_every_seconds=every_seconds))
    learns.learn_if_due()
    assert learns.rebuilds == 1, "there is nothing to learn yet"
    write_log(log, shop_log())
    learns.learn_if_due()
    published = read_pointer(tmp_path / "out")
    assert published is not None and ItemIndex.open(published).items > 0
    learns.learn_if_due()
    assert learns.rebuilds == 2, "now that it knows items it rests"


def test_an_item_that_is_new_to_the_index_is_learned_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.flink.index._REST", 0.0)
    monkeypatch.setattr("pipeline.flink.index._SOONEST_SECONDS", 0.0)
    log = tmp_path / "in" / "events.jsonl"
    log.parent.mkdir()
    write_log(log, shop_log())
    learns = learner(tmp_path / "job", JobConfig((str(log.parent),), str(tmp_path / "out"), model="none"))
    bought = {"event_id": "new", "user_id": "u", "kind": "purchase", "item_id": "brand-new"}
    with log.open("a") as file:
        file.write(json.dumps({**bought, "event_time": shop_log()[-1]["event_time"]}) + "\n")
    learns.note(["item01"])
    learns.learn_if_due()
    assert learns.rebuilds == 1, "what it knows is no reason"
    learns.note(["item01", "brand-new"])
    learns.learn_if_due()
    published = read_pointer(tmp_path / "out")
    assert published is not None and ItemIndex.open(published).find("brand-new") >= 0
    learns.learn_if_due()
    assert learns.rebuilds == 2


def test_paths_are_those_of_where_the_flags_were_given(tmp_path: Path) -> None:
    config = JobConfig(("events", PULLED), "out", ("items",), model="models/m", topics="t.yaml")
    config = replace(config, canary_model="gs://bucket/canary")
    told = absolute(config, str(tmp_path))
    assert told.inputs == (f"{tmp_path}/events", PULLED)
    assert (told.output, told.items) == (f"{tmp_path}/out", (f"{tmp_path}/items",))
    assert (told.model, told.topics) == (f"{tmp_path}/models/m", f"{tmp_path}/t.yaml")
    assert told.canary_model == "gs://bucket/canary"
    assert absolute(replace(config, model="none", topics=None)).model == "none"


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": ("kafka://127.0.0.1:9092/t?group=g&config=client.properties",)},
        {"sinks": ("delta://lists",)},
    ],
)
def test_a_path_within_an_address_has_to_be_whole(
    changed: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    config = JobConfig(inputs=(PULLED,), output=str(tmp_path))
    with pytest.raises(UsageError, match="whole path"):
        check_flink(replace(config, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("millis", [0, 501, 1_000])
def test_bundles_that_gave_starts_without_output_are_refused(millis: int) -> None:
    with pytest.raises(UsageError, match="never give any output"):
        FlinkPlan(bundle_millis=millis)


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        (("--run_for_seconds", "5"), "`livelist flink drain` ends a job"),
        (("--log_format", "text"), "does nothing in an endless run on Flink"),
        (("--state_dir", "state"), "whose states are on this disk"),
        (("--rerank_at_drain",), "does nothing in an endless run on Flink"),
        (("--metrics_host", "127.0.0.1"), "goes with --metrics_port"),
    ],
)
def test_a_flag_that_nothing_on_a_cluster_reads_is_refused(
    flag: tuple[str, ...], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    job = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(["flink", "submit", "--cluster", str(tmp_path), *job, *flag]) == UsageError.exit_code
    told = capsys.readouterr().err
    assert flag[0] in told and why in told


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("--flink_master=127.0.0.1:8081", "--cluster"),
        ("--setup_file=./setup.py", "install it there"),
        ("--job_name=mine", "sets Beam's options"),
    ],
)
def test_an_option_of_beams_that_the_cluster_does_not_heed_is_refused(option: str, instead: str) -> None:
    with pytest.raises(UsageError, match=instead) as told:
        command.refuse_beam_options(PipelineOptions(["--runner=FlinkRunner", option]))
    assert option.partition("=")[0] in str(told.value)


def test_the_options_that_count_are_taken() -> None:
    command.refuse_beam_options(PipelineOptions(["--runner=FlinkRunner", "--streaming", "--parallelism=3"]))


def test_no_warning_of_an_absent_library_comes_before_the_answer(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['apitools'] = None; from pipeline.cli.main import main; "
        f"sys.exit(main(['flink', 'drain', '--cluster', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == [
        f"livelist: there is no cluster in {tmp_path}: start one with `livelist flink up`"
    ]


class JobManager(BaseHTTPRequestHandler):
    """What Flink's REST interface says of one job; `state` may change meanwhile."""

    state = "RUNNING"
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        told: object = {"state": self.state, "start-time": 1, "vertices": [{"id": "v", "status": self.state}]}
        if self.path.endswith("/watermarks"):
            told = [{"value": "7"}]
        elif "/exceptions" in self.path:
            told = {}
        elif self.path.endswith("/checkpoints"):
            told = {"counts": {"completed": 3}}
        elif "/metrics" in self.path:
            told = [{"value": "0"}]
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def job_manager(port: int, state: str) -> Iterator[type[JobManager]]:
    handler = type("Manager", (JobManager,), {"state": state, "asked": 0})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield handler
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> ClusterSettings:
    made = replace(settings_in(tmp_path), rest_port=free_port())
    folder = job_folder(made, "livelist")
    folder.mkdir(parents=True)
    _save(folder, FlinkJob(FlinkPlan(), "run", "id", str(tmp_path / "out"), (), 0.0))
    return made


def test_a_drain_that_takes_too_long_lets_a_job_read_on(settings: ClusterSettings) -> None:
    folder = job_folder(settings, "livelist")
    with (
        job_manager(settings.rest_port, "RUNNING"),
        pytest.raises(DeploymentError, match="reads on as before"),
    ):
        drain(settings, "livelist", seconds=0.5)
    assert not (folder / DRAIN).exists()
    assert not load_job(settings, "livelist").drained


def test_a_job_that_has_read_its_end_is_not_resumed(settings: ClusterSettings) -> None:
    folder = job_folder(settings, "livelist")
    (folder / ALL_READ).touch()
    with job_manager(settings.rest_port, "RUNNING"):
        with pytest.raises(DeploymentError, match="cannot be resumed"):
            drain(settings, "livelist", seconds=0.5)
        with pytest.raises(UsageError, match="for a drain"):
            savepoint(settings, "livelist")
    assert (folder / DRAIN).exists(), "its other sources end too"
    job = load_job(settings, "livelist")
    chk = settings.checkpoints / "id" / "chk-3"
    chk.mkdir(parents=True)
    (chk / "_metadata").touch()
    with pytest.raises(UsageError, match="Submit it anew"):
        newest_state(settings, job)
    with pytest.raises(UsageError, match="Submit it anew"):
        main_resume(settings, chk.as_uri())


def main_resume(settings: ClusterSettings, start: str) -> None:
    settings.save()
    args = command.parse(
        CommandParser("livelist flink"), ["resume", "--cluster", settings.folder, "--from", start]
    )
    command.run(args)


def test_a_savepoint_from_before_the_drain_may_be_gone_on_from(tmp_path: Path) -> None:
    from pipeline.flink.submit import refuse_drained

    job = FlinkJob(FlinkPlan(), "run", "id", "out", (), 0.0, drained=True)
    refuse_drained(job, "file:///savepoints/savepoint-1")


def test_a_job_manager_that_was_away_is_waited_for_and_that_is_said_once(
    settings: ClusterSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_WATCH_SECONDS", 0.05)
    ended: list[int] = []
    watching = threading.Thread(
        target=lambda: ended.append(command._watch(settings, "livelist", threading.Event()))
    )
    with job_manager(settings.rest_port, "RUNNING") as manager:
        watching.start()
        await_that(lambda: manager.asked > 4)
    time.sleep(1)
    with job_manager(settings.rest_port, "CANCELED"):
        watching.join(60)
    assert ended == [1]
    assert capsys.readouterr().err.count("it is waited for") == 1


def test_a_job_manager_that_stays_away_ends_the_watch_with_what_to_do(
    settings: ClusterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_WATCH_SECONDS", 0.05)
    monkeypatch.setattr(command, "_SILENT_SECONDS", 0.5)
    with pytest.raises(DeploymentError, match="is not drained"):
        command._watch(settings, "livelist", threading.Event())


def test_how_long_a_drain_may_take_is_a_flag() -> None:
    def parsed(*given: str) -> argparse.Namespace:
        return command.parse(CommandParser("livelist flink"), ["drain", *given])

    assert parsed().drain_seconds > 180, "a checkpoint alone may take that"
    assert parsed("--drain_seconds", "5").drain_seconds == 5
