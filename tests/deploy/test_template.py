"""The flex templates: their parameters against the flags of `livelist run`, and the runbook's commands."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from models.errors import UsageError
from pipeline.cli import run as run_command
from pipeline.cli.parsing import CommandParser
from pipeline.dataflow.template import command_line, launch, run_parser
from pipeline.flags.parsed import job_config
from tests.deploy.files import DEPLOY, commands

KINDS = ("endless", "bounded")
RUNBOOK = DEPLOY / "dataflow" / "README.md"
#: Parameter -> values that are good, and values that are not.
GOOD: dict[str, Any] = {
    "input": {
        "endless": ("pubsub://shop-project/feedback", "kafka://a:9092,b:9092/t?group=g&start=latest"),
        "bounded": ("gs://shop-lists/events/*.jsonl.gz", "gs://shop-lists/a gs://shop-lists/b"),
    },
    "output": {
        "endless": ("gs://shop-lists/lists bigquery://shop-project/lists postgresql://u@db/lists?schema=s",),
        "bounded": ("gs://shop-lists/lists",),
    },
    "items": ("gs://shop-lists/items.jsonl",),
    "map": ("user_id=reviewer text=body",),
    "set": ("kind=review",),
    "time_format": ("%d/%m/%Y %H:%M", "%Y-%m-%d"),
    "model": ("none", "/models/shop"),
    "canary_model": ("/models/next",),
    "topics": ("/models/topics.yaml",),
    "now": ("2026-01-31T12:00:00Z",),
    "providers": ("cuda,cpu", "CUDAExecutionProvider"),
    "rating_scale": ("1:5", "-1:1", "0.5:10"),
    "allowed_lateness_seconds": ("0", "86400"),
}
BAD = {
    "input": ("", "/tmp/events.jsonl", "pubsub://p/s/t x", "kafka://host/topic", "-"),
    "output": ("", "/tmp/lists", "lists"),
    "items": ("/tmp/items.jsonl",),
    "map": ("user_id", "=x"),
    "set": ("kind",),
    "format": ("xml",),
    "time_format": ("", "day/month/year", "%d; rm"),
    "model": ("models/shop", "gs://bucket/model"),
    "canary_model": ("none",),
    "topics": ("topics.yaml", "/models/topics.json"),
    "now": ("yesterday", "2026-01-31"),
    "providers": ("gpu", "cuda,"),
    "accelerator": ("NVIDIA L4", "type:nvidia-l4"),
    "rating_scale": ("5", "1-5"),
    "diversity": ("1.5", "-0.1"),
    "canary_share": ("0", "1.01", "0.0"),
    "show_seen": ("yes", ""),
    "emit_history": ("1",),
    "threads": ("-1", "two"),
    "allowed_lateness_seconds": ("-1", "1h"),
}
NOT_A_NUMBER = ("", "0", "-1", "many", "1e3")
NOT_A_NAME = ("", "nothing", "NONE")


def parameters(kind: str) -> dict[str, dict[str, Any]]:
    told = json.loads((DEPLOY / "dataflow" / f"{kind}.json").read_text())
    return {parameter["name"]: parameter for parameter in told["parameters"]}


def accepted(parameter: dict[str, Any], value: str) -> bool:
    return all(re.fullmatch(pattern, value) for pattern in parameter["regexes"])


def each() -> list[tuple[str, str]]:
    return [(kind, name) for kind in KINDS for name in parameters(kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_says_what_each_parameter_is(kind: str) -> None:
    told = json.loads((DEPLOY / "dataflow" / f"{kind}.json").read_text())
    assert told["name"] and told["description"] and told["streaming"] is (kind == "endless")
    for parameter in told["parameters"]:
        assert set(parameter) <= {"name", "label", "helpText", "isOptional", "regexes"}
        assert parameter["label"] and parameter["helpText"] and parameter["regexes"]
        assert all(pattern[0] + pattern[-1] == "^$" for pattern in parameter["regexes"])
    assert {name for name, one in parameters(kind).items() if not one.get("isOptional")} == {
        "input",
        "output",
    }


def test_the_parameters_are_the_flags_that_mean_something_there() -> None:
    flags = {flag for action in run_parser()._actions for flag in action.option_strings}
    told = {f"--{name}" for _, name in each()}
    assert told <= flags
    # Of a job in this process, or shown to everybody who sees the job; what is pulled makes it endless.
    assert flags - told == {
        "-h", "--help", "--streaming", "--follow", "--run_for_seconds", "--metrics_port", "--metrics_host",
        "--log_format", "--reindex_every_seconds", "--state_dir", "--rerank_at_drain", "--user_id_key",
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), each())
def test_a_pattern_takes_what_the_flag_takes_and_refuses_what_is_wrong(kind: str, name: str) -> None:
    parameter = parameters(kind)[name]
    action = run_parser()._option_string_actions[f"--{name}"]
    good = GOOD.get(name, ())
    values = [*(good[kind] if isinstance(good, dict) else good), *(action.choices or ())]
    if action.nargs == 0:
        values += ["true", "false"]
    elif action.default not in (None, ""):
        values.append(f"{action.default:g}" if isinstance(action.default, float) else str(action.default))
    if name == "providers":
        values.remove("CPUExecutionProvider")
        values.append("cpu")
    assert values, "say what is good"
    for value in values:
        assert accepted(parameter, value), value
        command_line([f"--{name}={value}"])
    bad = BAD.get(name, NOT_A_NAME if action.choices else NOT_A_NUMBER)
    for value in bad:
        assert not accepted(parameter, value), value


def test_endless_and_bounded_do_not_take_each_others_places() -> None:
    endless, bounded = parameters("endless"), parameters("bounded")
    assert not accepted(endless["input"], "gs://shop-lists/events")
    assert not accepted(bounded["input"], "pubsub://shop-project/feedback")
    assert not accepted(endless["output"], "gs://shop-lists/lists"), "no sink"
    assert not accepted(bounded["output"], "gs://shop-lists/lists bigquery://shop-project/lists")


def test_the_runbooks_launches_are_jobs_that_the_templates_take() -> None:
    runs = [command for command in commands(RUNBOOK, "gcloud") if command[3] == "run"]
    assert len(runs) == len(KINDS)
    for command in runs:
        flags = dict(part[2:].split("=", 1) for part in command if part.startswith("--") and "=" in part)
        kind = flags["template-file-gcs-location"].rpartition("/")[2].removesuffix(".json")
        given = dict(part.split("=", 1) for part in flags["parameters"].removeprefix("^~^").split("~"))
        assert given.pop("sdk_container_image")
        known = parameters(kind)
        assert all(accepted(known[name], value) for name, value in given.items())
        line = command_line([f"--{name}={value}" for name, value in given.items()])
        parsed = run_command.parse(CommandParser("livelist run"), line)
        assert parsed.streaming is (kind == "endless")
        assert bool(job_config(parsed, {}).sinks) is (kind == "endless")


def test_the_runbooks_direct_command_parses_to_its_last_flag() -> None:
    from pipeline.options import parse_launch

    (command,) = commands(RUNBOOK, "livelist")
    parsed = run_command.parse(CommandParser("livelist run"), command[2:])
    launched = parse_launch(parsed, parsed.beam, "livelist run", {})
    assert launched.runner == "DataflowRunner" and launched.config.sinks


def test_several_values_become_repeated_flags_and_switches_lose_their_values() -> None:
    given = ["--input=gs://a/x gs://a/y", "--show_seen=true", "--emit_history=false", "--topics=", "--k=5"]
    assert command_line(given) == ["--input=gs://a/x", "--input=gs://a/y", "--show_seen", "--k=5"]
    with pytest.raises(UsageError, match="--show_seen: expected true or false"):
        command_line(["--show_seen=maybe"])


def test_what_the_service_adds_is_passed_on_or_left_out_with_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--runner=DataflowRunner", "--template_location=gs://b/t", "--experiments=x", "--of_tomorrow=1"]
    assert command_line(given) == given[:3]
    assert "--of_tomorrow is not known here and left out" in capsys.readouterr().err


def test_what_is_pulled_makes_the_job_endless() -> None:
    assert command_line(["--input=pubsub://shop-project/feedback"])[-1] == "--streaming"
    assert "--streaming" not in command_line(["--input=gs://b/events"])


def test_a_wrong_parameter_ends_the_launcher_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(["--emit_history=maybe"]) == 2
    assert capsys.readouterr().err == "livelist: --emit_history: expected true or false, got 'maybe'\n"
    assert launch(["--input=gs://b/events", "--runner=DataflowRunner"]) == 2
    assert "--output is needed" in capsys.readouterr().err
