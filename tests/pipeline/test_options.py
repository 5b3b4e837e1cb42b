"""A command line is split into our job and the runner's options; nothing unknown slips through."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from models.errors import UsageError
from pipeline.cli.parsing import CommandParser
from pipeline.config import JobConfig
from pipeline.flags.groups import add_job_flags
from pipeline.flags.parsed import job_config
from pipeline.options import Launch, RecommenderOptions, parse_launch, refuse_idle_options

NEEDED = ["--input=events.jsonl", "--output=out"]


def launch(*arguments: str) -> Launch:
    parser = CommandParser("livelist run")
    add_job_flags(parser)
    flags, rest = parser.parse_known_args([*NEEDED, *arguments])
    return parse_launch(flags, rest, "livelist run", {})


def test_the_default_runner_is_chosen_openly() -> None:
    chosen = launch()
    assert chosen.runner == "FnApiRunner"
    assert chosen.beam_options.view_as(StandardOptions).runner == "FnApiRunner"
    assert "default" in chosen.notice


def test_direct_runner_means_it_and_says_what_it_does() -> None:
    chosen = launch("--runner=DirectRunner")
    assert chosen.beam_options.view_as(StandardOptions).runner == "DirectRunner"
    assert "Beam itself chooses" in chosen.notice


def test_beam_options_reach_beam() -> None:
    assert launch("--direct_num_workers", "2").beam_options.view_as(DirectOptions).direct_num_workers == 2


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--runer=FnApiRunner", "unknown flag --runer; did you mean --runner?"),
        ("--state_siz=3", "unknown flag --state_siz; did you mean --state_size?"),
        ("--direct-num-worker=3", "did you mean --direct_num_workers?"),
        ("--qqqqqqq", "unknown flag --qqqqqqq (see"),
        ("events.jsonl", "unexpected argument 'events.jsonl'"),
        ("--max_num_workers=many", "--max_num_workers: invalid int value: 'many'"),
    ],
)
def test_unknown_flags_are_refused_with_the_nearest_name(argument: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        launch(argument)
    assert said in str(refused.value)


def test_the_key_stays_out_of_the_runners_options() -> None:
    chosen = launch("--user_id_key=a key that nobody should see")
    assert "nobody" not in str(chosen.beam_options.get_all_options())


def test_pipeline_builders_get_the_same_config_from_beam_options() -> None:
    options = PipelineOptions([*NEEDED, "--k=3"]).view_as(RecommenderOptions)
    assert job_config(options, {}) == JobConfig(inputs=("events.jsonl",), output="out", k=3)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("Flink", "FlinkRunner"),
        ("flinkrunner", "FlinkRunner"),
        ("fnapi", "FnApiRunner"),
        ("FNAPIRUNNER", "FnApiRunner"),
        ("DirectRunner", "DirectRunner"),
        ("bundlebaseddirect", "BundleBasedDirectRunner"),
        ("dataflow", "DataflowRunner"),
        ("apache_beam.runners.dataflow.dataflow_runner.DataflowRunner", "DataflowRunner"),
        ("my.module.Runner", "my.module.Runner"),
        ("my.module.DataflowRunner", "my.module.DataflowRunner"),
    ],
)
def test_a_runner_has_one_name_for_us_and_for_beam(given: str, named: str) -> None:
    chosen = launch(f"--runner={given}")
    assert chosen.runner == named
    assert chosen.beam_options.view_as(StandardOptions).runner == named


@pytest.mark.parametrize(
    ("given", "near"),
    [("Flonk", "FlinkRunner"), ("datflow", "DataflowRunner"), ("TestDataflowRunner", "DataflowRunner")],
)
def test_an_unknown_runner_is_refused_with_the_nearest(given: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"there is no '{given}'; did you mean {near}"):
        launch(f"--runner={given}")


def test_a_runner_that_is_near_to_none_is_refused_with_all_of_them() -> None:
    with pytest.raises(UsageError, match=r"there is no 'qq'; expected one of .*FnApiRunner.*PrismRunner"):
        launch("--runner=qq")


@pytest.mark.parametrize(
    "option",
    [
        "--direct_num_workers=2",
        "--direct_running_mode=multi_processing",
        "--direct_test_splits={}",
        "--job_endpoint=localhost:8099",
        "--environment_type=DOCKER",
        "--sdk_worker_parallelism=2",
        "--num_workers=2",
        "--max_cache_memory_usage_mb=100",
        "--setup_file=./setup.py",
        "--parallelism=2",
        "--template_location=gs://b/t",
    ],
)
def test_options_of_other_engines_are_refused_by_name(option: str) -> None:
    with pytest.raises(UsageError, match=f"^{option.partition('=')[0]} is of no use in an endless run"):
        refuse_idle_options(["--streaming", "--runner=FnApiRunner", option])


def test_options_that_the_engine_in_this_process_reads_are_let_through() -> None:
    refuse_idle_options(
        [
            "--streaming",
            "--runner=FnApiRunner",
            "--project=p",
            "--s3_endpoint_url=http://h",
            "--experiments=x",
        ]
    )
