"""Flags become a config at once, and a wrong one is refused in one line."""

from __future__ import annotations

import argparse
import dataclasses

import pytest

from models.cleaning import CleaningConfig
from models.errors import UsageError
from models.ranking.config import RankingConfig
from models.state import StateConfig
from pipeline.cli.parsing import CommandParser, flags_of
from pipeline.config import JobConfig
from pipeline.flags.groups import GROUPS, add_flags, add_job_flags
from pipeline.flags.parsed import USER_ID_KEY_VARIABLE, job_config, outputs
from pipeline.inputs.reading import InputFormat

NEEDED = ["--input", "events.jsonl", "--output", "out"]


def parse(*arguments: str, needed: bool = True) -> argparse.Namespace:
    parser = CommandParser("livelist run")
    add_job_flags(parser)
    return parser.parse_args([*(NEEDED if needed else []), *arguments])


def config(*arguments: str, environment: dict[str, str] | None = None) -> JobConfig:
    return job_config(parse(*arguments), environment or {})


def test_without_flags_every_config_has_its_own_defaults() -> None:
    assert config() == JobConfig(inputs=("events.jsonl",), output="out")


def test_every_cleaning_policy_is_a_flag() -> None:
    parser = CommandParser("livelist run")
    add_job_flags(parser)
    flags = {flag.lstrip("-") for flag in flags_of(parser)}
    fixed = {"earliest_time", "future_tolerance"}  # not a matter of taste
    assert {policy.name for policy in dataclasses.fields(CleaningConfig)} - fixed <= flags


def test_every_flag_has_a_help_text() -> None:
    parser = CommandParser("livelist run")
    add_job_flags(parser)
    assert [action.dest for action in parser._actions if not action.help] == []


def test_a_flag_is_in_one_group_and_a_group_has_one_title() -> None:
    parser = CommandParser("livelist run")
    add_flags(parser, *GROUPS)  # argparse refuses a flag that comes twice
    titles = [group.title for group in parser._action_groups]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--rating_scale=0:10"], {"cleaning": CleaningConfig(rating_scale=(0.0, 10.0))}),
        (["--missing_rating=from_text"], {"cleaning": CleaningConfig(missing_rating="from_text")}),
        (["--bursts=keep"], {"cleaning": CleaningConfig(bursts=False)}),
        (["--content_duplicates=keep"], {"cleaning": CleaningConfig(content_duplicates=False)}),
        (["--state_size=50", "--state_ttl_days=1"], {"state": StateConfig(50, 86_400_000_000)}),
        (["--show_seen", "--diversity=0"], {"ranking": RankingConfig(exclude_seen=False, diversity=0.0)}),
        (
            ["--format=csv", "--map", "user_id=reviewer", "--map=text=body", "--set", "kind=review"],
            {"form": InputFormat("csv", (("user_id", "reviewer"), ("text", "body")), (("kind", "review"),))},
        ),
        (["--now=2024-06-01T00:00:00Z"], {"now": 1_717_200_000_000_000}),
        (["--providers=cuda,cpu"], {"providers": ("CUDAExecutionProvider", "CPUExecutionProvider")}),
        (["--input", "more.jsonl"], {"inputs": ("events.jsonl", "more.jsonl")}),
    ],
)
def test_a_flag_sets_its_field_and_nothing_else(arguments: list[str], expected: dict[str, object]) -> None:
    plain = {field.name: getattr(config(), field.name) for field in dataclasses.fields(JobConfig)}
    given = config(*arguments)
    assert {name: getattr(given, name) for name in plain} == {**plain, **expected}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--k=0"], "--k: expected a whole number of at least 1, got '0'"),
        (["--k=ten"], "--k: expected a whole number of at least 1, got 'ten'"),
        (["--rating_scale=5"], "--rating_scale: expected LOW:HIGH such as 1:5, got '5'"),
        (["--rating_scale=5:1"], "low < high"),
        (["--now=tomorrow"], "--now"),
        (["--map=user_id"], "--map expects FIELD=VALUE"),
        (["--map=user_id=reviewer"], "--map and --set belong to --format csv"),
        (["--format=cvs"], "--format: invalid choice: 'cvs'"),
        (["--state_ttl_days=-1"], "--state_ttl_days: expected a number above 0"),
        (["--diversity=2"], "--diversity must be in"),
        (["--user_id_key="], "--user_id_key must not be empty"),
        (["--missing_raiting=drop"], "did you mean --missing_rating?"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        config(*arguments)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("missing", ["--input", "--output"])
def test_input_and_output_are_needed(missing: str) -> None:
    arguments = {"--input": "a", "--output": "b"}
    del arguments[missing]
    with pytest.raises(UsageError, match=f"{missing} is needed"):
        job_config(parse(*(part for pair in arguments.items() for part in pair), needed=False), {})


def test_the_key_comes_from_the_environment_and_is_never_shown() -> None:
    keyed = config(environment={USER_ID_KEY_VARIABLE: "a key of sixteen bytes or more"})
    assert keyed.cleaning.user_id_key == b"a key of sixteen bytes or more"
    assert "sixteen" not in repr(keyed)


def test_the_flag_wins_over_the_environment() -> None:
    keyed = config("--user_id_key=from the flag", environment={USER_ID_KEY_VARIABLE: "from the environment"})
    assert keyed.cleaning.user_id_key == b"from the flag"


def test_ratings_from_words_need_a_model_that_reads_them() -> None:
    with pytest.raises(UsageError, match="--model none"):
        config("--missing_rating=from_text", "--model", "none")


def test_outputs_are_one_folder_and_any_number_of_sinks() -> None:
    sinks = ("postgresql://localhost/shop", "kafka://localhost:9092/lists")
    assert outputs(["out", *sinks, sinks[0]]) == ("out", sinks)
    with pytest.raises(UsageError, match="the folder of the tables: what goes to a sink is made from them"):
        outputs(list(sinks))
    with pytest.raises(UsageError, match="expected one folder of the tables, got out and more"):
        outputs(["out", "more"])
    with pytest.raises(UsageError, match="expected kafka://HOST:PORT"):
        outputs(["out", "kafka://localhost/lists"])
