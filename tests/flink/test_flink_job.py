"""The parts of a job on a cluster that need none: its source, its index, its flags, what is refused."""

from __future__ import annotations

import argparse
import json
import pickle
import time
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.utils.timestamp import MAX_TIMESTAMP
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DeploymentError, InputError, UsageError
from models.ranking.index import ItemIndex, read_pointer
from pipeline.cli import flink as command
from pipeline.cli.parsing import CommandParser
from pipeline.config import JobConfig
from pipeline.endless import sorted_inputs
from pipeline.flink.index import learn_from_log, log_bytes
from pipeline.flink.job import build_flink, check_flink
from pipeline.flink.plan import FlinkPlan
from pipeline.flink.source import (
    DRAIN,
    ClusterReader,
    FollowOnCluster,
    PlacesMark,
    PlacesMarkCoder,
    progress_file,
    unread_bytes,
)
from pipeline.flink.submit import FlinkJob, newest_state
from pipeline.inputs.growing_files import Place
from pipeline.inputs.progress import read_progress
from pipeline.inputs.reading import InputFormat
from pipeline.job import scoring_step
from tests.flink.test_cluster import settings_in
from tests.pipeline.live.feedback_log import shop_log, write_log


def reader(folder: Path, mark: PlacesMark | None = None) -> ClusterReader:
    source = FollowOnCluster((str(folder / "in"),), str(folder), wait_seconds=0.0)
    made = source.create_reader(None, mark)
    assert isinstance(made, ClusterReader)
    return made


def lines(of: ClusterReader) -> list[bytes]:
    """What it gives out now."""
    found = []
    more = of.start()
    while more:
        found.append(of.get_current()[0])
        more = of.advance()
    return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.jsonl"
    path.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(20)))
    return path


@pytest.mark.parametrize("read_before", [0, 1, 7, 19, 20])
def test_a_reader_goes_on_where_the_mark_of_another_was(log: Path, read_before: int) -> None:
    first = reader(log.parents[1])
    for _ in range(read_before):
        assert first.advance()
    mark = PlacesMarkCoder().decode(PlacesMarkCoder().encode(first.get_checkpoint_mark()))
    rest = lines(reader(log.parents[1], mark if read_before else None))
    assert [json.loads(line)["n"] for line in rest] == list(range(read_before, 20))


def test_an_idle_reader_does_not_wait_and_finds_what_comes_later(log: Path) -> None:
    idle = reader(log.parents[1])
    assert len(lines(idle)) == 20
    assert not idle.advance()
    with log.open("a") as file:
        file.write('{"n": 20}\n')
    assert idle.advance()
    assert idle.get_watermark() < MAX_TIMESTAMP


def test_a_drain_reads_all_that_is_there_then_ends(log: Path) -> None:
    draining = reader(log.parents[1])
    (log.parents[1] / DRAIN).touch()
    assert len(lines(draining)) == 20
    assert draining.get_watermark() == MAX_TIMESTAMP


def test_what_a_reader_has_not_read_is_told_in_bytes_of_whole_lines(log: Path) -> None:
    folder = log.parents[1]
    followed = [str(log.parent)]
    assert unread_bytes(followed, read_progress(progress_file(folder))) == log.stat().st_size
    telling = ClusterReader(
        FollowOnCluster((str(log.parent),), str(folder), wait_seconds=0.0, tells=True), {}
    )
    lines(telling)
    idle_since = time.time()
    telling.get_checkpoint_mark()
    told = read_progress(progress_file(folder))
    assert unread_bytes(followed, told) == 0
    assert 0 < told.moved <= idle_since, "or lists that are written by then look as if they were still due"
    with log.open("a") as file:
        file.write('{"n": 20}\n{"n": 2')
    assert unread_bytes(followed, told) == len('{"n": 20}\n'), "a line without its end is no input yet"


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 1 << 60), max_size=5))
def test_a_mark_comes_back_as_it_was(offsets: dict[str, int]) -> None:
    places = {path: Place(path, 1, 2, offset, 3, 4) for path, offset in offsets.items()}
    coder = PlacesMarkCoder()
    encoded = coder.encode(PlacesMark(places))
    assert coder.decode(encoded).places == places
    assert coder.encode(PlacesMark(dict(reversed(places.items())))) == encoded


def test_a_source_crosses_to_workers() -> None:
    source = FollowOnCluster(("in",), "job")
    assert pickle.loads(pickle.dumps(source)) == source


def test_the_index_is_learned_from_the_log_alone(tmp_path: Path) -> None:
    events = write_log(tmp_path / "events.jsonl", shop_log())
    config = JobConfig(inputs=(events,), output=str(tmp_path / "out"), model="none")
    assert ItemIndex.open(learn_from_log(config)).items > 0
    assert log_bytes(config) == Path(events).stat().st_size


def test_without_feedback_an_index_is_published_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    learn_from_log(JobConfig(inputs=(str(tmp_path / "in"),), output=str(tmp_path / "out"), model="none"))
    index = read_pointer(tmp_path / "out")
    assert index is not None and ItemIndex.open(index).items == 0


def test_pulled_inputs_are_told_from_files() -> None:
    config = JobConfig(inputs=("events", "kafka://127.0.0.1:9092/t?group=g"), output="out")
    assert sorted_inputs(config) == (("events",), ("kafka://127.0.0.1:9092/t?group=g",))


def test_what_cannot_be_endless_on_a_cluster_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    config = JobConfig(inputs=(str(tmp_path / "in"),), output=str(tmp_path / "out"))
    check_flink(config)
    for other, word in (
        (replace(config, inputs=("-",)), "stdin"),
        (replace(config, form=InputFormat("csv")), "JSON lines"),
        (replace(config, output="gs://bucket/out"), "all workers share"),
        (replace(config, emit_history=True), "--emit_history"),
        (replace(config, now=5), "--now"),
    ):
        with pytest.raises(UsageError, match=word):
            check_flink(other)
    with pytest.raises(InputError, match="nothing to follow"):
        check_flink(replace(config, inputs=(str(tmp_path / "absent"),)))


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 41])
def test_a_job_has_a_name_that_fits_a_folder(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        FlinkPlan(name=name)


def parsed(*arguments: str) -> argparse.Namespace:
    return command.parse(CommandParser("livelist flink", command.__doc__), list(arguments))


@pytest.mark.parametrize("action", command._ACTIONS)
def test_every_action_says_what_it_does(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(action, "--help")
    told = capsys.readouterr().out
    assert command._described(action) in " ".join(told.split())
    assert "--cluster" in told


def test_a_misspelt_action_is_refused() -> None:
    with pytest.raises(UsageError, match="submit"):
        parsed("submitt")


def test_a_resumed_job_reads_its_own_flags_anew(tmp_path: Path) -> None:
    given = (
        "--input",
        "events",
        "--output",
        str(tmp_path),
        "--k",
        "7",
        "--model",
        "none",
        "--parallelism",
        "2",
    )
    job = FlinkJob(FlinkPlan(), "run", "id", str(tmp_path), ("events",), 0.0, given)
    assert parsed("submit", *given).parallelism == 2
    assert command._config_of(job).k == 7


def test_a_job_resumes_from_its_savepoint_else_its_newest_whole_checkpoint(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    job = FlinkJob(FlinkPlan(), "run", "id", "out", (), 0.0)
    with pytest.raises(DeploymentError, match="no checkpoint"):
        newest_state(settings, job)
    assert newest_state(settings, replace(job, started_from="file:///before")) == "file:///before"
    for number in (2, 9, 10):
        (settings.checkpoints / "id" / f"chk-{number}").mkdir(parents=True)
    for number in (2, 9):
        (settings.checkpoints / "id" / f"chk-{number}" / "_metadata").touch()
    assert newest_state(settings, replace(job, started_from="file:///before")).endswith("/id/chk-9")
    assert newest_state(settings, replace(job, savepoint="file:///stopped")) == "file:///stopped"


@pytest.mark.cloud
@pytest.mark.parametrize(
    ("inputs", "read"),
    [
        (("pubsub://shop-project/all-sub?texts=words-sub",), {"PullFeedback0", "PullTexts0"}),
        (("pubsub://shop-project/all-sub",), {"PullFeedback0"}),
        (
            ("kafka://h:1/t?group=g", "pubsub://shop-project/all-sub"),
            {"PullFeedback0", "PullTexts0", "PullFeedback1"},
        ),
    ],
)
def test_words_are_read_by_a_source_of_their_own_where_there_is_one(
    inputs: tuple[str, ...], read: set[str], tmp_path: Path
) -> None:
    pytest.importorskip("confluent_kafka", reason="the kafka extra is missing: make test-all")
    pytest.importorskip("google.cloud.pubsub_v1", reason="the gcp extra is missing: make test-all")
    config = JobConfig(inputs=inputs, output=str(tmp_path))
    pipeline = beam.Pipeline("FnApiRunner")
    build_flink(pipeline, config, scoring_step(config), "run", tmp_path, 0.05, spread=True)
    steps = {part.full_label.partition("/")[0] for part in pipeline.transforms_stack[0].parts}
    assert {step for step in steps if step.startswith("Pull")} == read
