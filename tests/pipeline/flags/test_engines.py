"""Every flag on every engine: either something there reads it, or the command refuses it with the reason."""

from __future__ import annotations

import dataclasses
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

import pipeline.job
from pipeline.cli.main import main
from pipeline.cli.parsing import CommandParser
from pipeline.config import JobConfig
from pipeline.flags.engines import MEANINGS, Engine, engine_of, given_flags
from pipeline.flags.groups import GROUPS, add_flags
from pipeline.flink.job import build_flink
from pipeline.flink.steward import CONFIG, Steward
from pipeline.job import run_job, scorer_of
from pipeline.live.run import run_live
from pipeline.live.state import live_state
from pipeline.recommender import RecommenderConfig
from tests.pipeline.live.feedback_log import shop_log, write_log

#: What the recommender's config calls a flag, where that is another name.
_OTHER_NAMES = {
    "index_root": ["output"],
    "policy": ["cleaning"],
    "allowed_lateness": ["allowed_lateness_seconds"],
    "history_window_seconds": ["history_window_seconds", "emit_history"],
}
#: Who hands fields on, or looks at them to refuse them: that makes no use of a field.
_NO_USE = ("recommender_config", "check_flink", "check_live")
_NO_USE_IN = ("copyreg", "dataclasses", "pipeline.config", "pipeline.flags.engines")
#: An endless job's index is learned as of its newest event: what says otherwise is refused before.
_FIXED = {"load_history": ("now", "allowed_lateness")}
#: Flags of a command, not of a job.
_OF_COMMANDS = {"run_for_seconds", "metrics_port", "metrics_host", "log_format"}
_VALUES = {
    "now": "2024-01-31",
    "metrics_host": "127.0.0.1",
    "log_format": "text",
    "if_exists": "append",
    "accelerator": "l4",
}
_SWITCHES = ("emit_history", "rerank_at_drain")
#: No flag has them: the one is fixed, the other is values of --output, which each engine checks one by one.
_OTHERWISE = {"index", "sinks"}
_CLOUD = (Engine.DATAFLOW_BOUNDED, Engine.DATAFLOW)
_read: set[str] = set()


def _note(name: str) -> None:
    frame = sys._getframe(2)
    reader, inside = frame.f_code.co_name, frame.f_globals["__name__"]
    if reader in _NO_USE or inside in _NO_USE_IN or name in _FIXED.get(reader, ()):
        return
    _read.update(_OTHER_NAMES.get(name, [name]))


class WatchedJob(JobConfig):
    """Notes which of its fields are read."""

    def __getattribute__(self, name: str) -> Any:
        _note(name)
        return super().__getattribute__(name)


class WatchedRecommender(RecommenderConfig):
    """The same of the part that the recommender gets."""

    def __getattribute__(self, name: str) -> Any:
        _note(name)
        return super().__getattribute__(name)


def in_a_bounded_run(folder: Path, log: str) -> None:
    run_job(config(folder, log, items=(items(folder),), emit_history=True), options())


def in_process(folder: Path, log: str) -> None:
    state = live_state("watched")

    def stop() -> None:
        state.caught_up.wait(120)
        state.stop.set()

    threading.Thread(target=stop, daemon=True).start()
    run_live(config(folder, log, items=(items(folder),)), options(), "watched")


def on_prism(folder: Path, log: str) -> None:
    job = config(folder, log, items=(items(folder),))
    (folder / CONFIG).write_bytes(pickle.dumps(("watched", JobConfig(inputs=(log,), output=str(folder)))))
    steward = Steward(folder)
    steward.config = job
    steward.stop.set()
    steward.tend()
    build_flink(beam.Pipeline(options=options()), job, scorer_of(job), "watched", folder, 0.1, spread=False)


def bounded_on_dataflow(folder: Path, log: str) -> None:
    from pipeline.dataflow.job import build_bounded, scorer_for_workers
    from pipeline.tables.sinks import prepare_output

    job = config(folder, log, items=(items(folder),), emit_history=True, providers=("CUDAExecutionProvider",))
    with prepare_output(job.output, "watched", job.if_exists):
        build_bounded(beam.Pipeline(options=options()), job, scorer_for_workers(job), "watched")


def on_dataflow(folder: Path, log: str) -> None:
    pytest.importorskip("google.cloud.dataflow_v1beta3", reason="beam's gcp extra is missing: make test-all")
    from pipeline.dataflow.job import build_endless, scorer_for_workers

    sinks = ("bigquery://some-project/lists",)
    job = config(folder, log, inputs=("pubsub://some-project/feedback",), sinks=sinks)
    job = dataclasses.replace(job, providers=("CUDAExecutionProvider",))
    pipeline = beam.Pipeline(options=PipelineOptions(["--streaming", "--runner=FnApiRunner"]))
    build_endless(pipeline, job, scorer_for_workers(job), "watched")


def config(folder: Path, log: str, **fields: Any) -> WatchedJob:
    plain: dict[str, Any] = {"inputs": (log,), "output": str(folder / "out"), "model": "none"}
    return WatchedJob(**plain | {"snapshot_every_seconds": 0.2} | fields)


def items(folder: Path) -> str:
    path = folder / "items.jsonl"
    path.write_text('{"item_id": "item01", "title": "a warm coat"}\n')
    return str(path)


def options() -> PipelineOptions:
    return PipelineOptions(["--runner=FnApiRunner"])


JOBS: dict[Engine, Callable[[Path, str], None]] = {
    Engine.BOUNDED: in_a_bounded_run,
    Engine.LOCAL: in_process,
    Engine.PRISM: on_prism,
    Engine.DATAFLOW_BOUNDED: bounded_on_dataflow,
    Engine.DATAFLOW: on_dataflow,
}


@pytest.mark.parametrize(
    "engine", [pytest.param(one, marks=pytest.mark.cloud if one in _CLOUD else ()) for one in JOBS]
)
def test_an_engine_reads_the_fields_whose_flags_it_takes_and_no_other(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.job, "RecommenderConfig", WatchedRecommender)
    log = write_log(tmp_path / "log.jsonl", shop_log())
    _read.clear()
    JOBS[engine](tmp_path, log)
    fields = {field.name for field in dataclasses.fields(JobConfig)} - _OTHERWISE
    expected = {name for name in fields if name not in MEANINGS or engine in MEANINGS[name].engines}
    assert _read & fields == expected


REFUSALS = [
    (flag, engine) for flag, meaning in MEANINGS.items() for engine in Engine if engine not in meaning.engines
]
#: Flag -> what it goes with, which is refused in its place where it comes first.
NEEDED = {"history_window_seconds": "emit_history", "metrics_host": "metrics_port"}
RUNNERS = {
    Engine.BOUNDED: [],
    Engine.LOCAL: ["--streaming"],
    Engine.PRISM: ["--follow", "--runner=prism"],
    Engine.FLINK: ["--streaming", "--runner=Flink"],
    Engine.DATAFLOW_BOUNDED: ["--runner=dataflow"],
    Engine.DATAFLOW: ["--streaming", "--runner=DataflowRunner"],
}


@pytest.mark.parametrize(("flag", "engine"), REFUSALS)
def test_a_flag_that_an_engine_has_no_use_for_is_refused_with_the_reason(
    flag: str, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [flag, *([NEEDED[flag]] if flag in NEEDED else ())]
    parts = [f"--{one}" if one in _SWITCHES else f"--{one}={_VALUES.get(one, '7')}" for one in given]
    assert main(["run", "--input=events", "--output=out", *RUNNERS[engine], *parts]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert any(said.startswith(f"livelist: --{one} does nothing {engine.value}: it is for ") for one in given)
    assert said.endswith("leave it out")


def test_every_flag_is_a_field_of_the_job_or_of_its_command() -> None:
    parser = CommandParser("livelist run")
    add_flags(parser, *GROUPS)
    flags = {action.dest for action in parser._actions}
    assert set(MEANINGS) <= flags
    fields = {field.name for field in dataclasses.fields(JobConfig)}
    assert set(MEANINGS) - fields == _OF_COMMANDS


def test_a_default_that_is_written_out_is_given_all_the_same() -> None:
    given = given_flags(
        ["--log_format", "text", "--follow", "--input=x", "--runner=Flink", "--num_workers", "2"]
    )
    assert set(given) == {"log_format", "streaming", "input"}


def test_a_remedy_names_streaming_only_where_that_helps(capsys: pytest.CaptureFixture[str]) -> None:
    places = ["run", "--input=gs://b/events", "--output=gs://b/out"]
    for runner, helps in (("FnApiRunner", True), ("DataflowRunner", False)):
        assert main([*places, f"--runner={runner}", "--state_dir=state"]) == 2
        assert ("pass --streaming" in capsys.readouterr().err) is helps


@pytest.mark.parametrize(
    ("flag", "other"),
    [
        ("--metrics_host=0.0.0.0", "--metrics_port"),
        ("--history_window_seconds=60", "--emit_history"),
        ("--canary_share=0.5", "--canary_model"),
    ],
)
def test_a_flag_that_does_nothing_without_another_is_refused(
    flag: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--input=events", "--output=out", flag]) == 2
    assert f"{flag.partition('=')[0]} goes with {other}" in capsys.readouterr().err


def test_an_engine_is_told_by_its_runner_and_whether_the_job_ends() -> None:
    assert engine_of("PrismRunner", streaming=False) is Engine.BOUNDED
    assert engine_of("PrismRunner", streaming=True) is Engine.PRISM
    assert engine_of("DataflowRunner", streaming=False) is Engine.DATAFLOW_BOUNDED
