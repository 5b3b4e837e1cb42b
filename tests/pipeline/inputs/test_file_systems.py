"""Commands that run no pipeline take the options of Beam's file systems, and no others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from models.errors import UsageError
from pipeline.cli.parsing import CommandParser
from pipeline.inputs.file_systems import parse_with_file_systems, use_file_systems, why_not

URL = ["--input", "s3://shop/events.jsonl"]


def parser() -> CommandParser:
    made = CommandParser("livelist validate")
    made.add_argument("--input", action="append")
    return made


def test_options_of_a_file_system_are_passed_on() -> None:
    flags = parse_with_file_systems(parser(), [*URL, "--s3_region_name=eu-west-1", "--project", "shop"])
    assert flags.input == URL[1:]
    assert flags.beam == ["--s3_region_name=eu-west-1", "--project", "shop"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*URL, "--s3_endpoint=http://127.0.0.1"], "did you mean --s3_endpoint_url?"),
        ([*URL, "--runner=DirectRunner"], "unknown flag --runner"),
        (["--input", "events.jsonl", "--inptu=x"], "did you mean --input?"),
        (["--input", "events.jsonl", "more.jsonl"], "unexpected argument 'more.jsonl'"),
    ],
)
def test_other_arguments_are_refused_with_the_nearest_name(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_with_file_systems(parser(), arguments)
    assert said in str(refused.value)


def test_local_files_do_not_load_beam() -> None:
    code = "import sys; from pipeline.inputs import file_systems as f; f.use_file_systems([], ['a', None]); "
    loaded = subprocess.run(
        [sys.executable, "-c", code + "print('apache_beam' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "False"
    use_file_systems([], [])


def test_a_code_beside_a_message_is_left_out() -> None:
    assert why_not(Exception("no such bucket\nmore", 404), "file://x") == "no such bucket"
