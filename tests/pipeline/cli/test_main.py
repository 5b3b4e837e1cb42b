"""The console command: quick to start, short in its errors, and documented."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from models.errors import InputError, OutputError
from pipeline.cli import main as cli
from pipeline.cli.console import output_console
from pipeline.cli.main import COMMANDS, explain_failure, main

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def livelist(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=120,
    )


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert "130  interrupted" in shown


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline.cli.main import main; main(['--help']);"
        "print([m for m in ('apache_beam', 'onnxruntime', 'pyarrow', 'numpy', 'rich') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "example:\n  " in shown
    assert f"livelist {command}" in shown.partition("example:")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recomend"], "did you mean `livelist recommend`?"),
        (["schema", "--jsn"], "unknown flag --jsn"),
        (["doctor", "--jsom"], "did you mean --json?"),
        (["schema", "feedbak"], "invalid choice"),
        (["run", "--inptu=x"], "did you mean --input?"),
        (["run"], "--input is needed"),
        (["recommend", "--output", "nowhere"], "--user"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def failing(error: BaseException) -> Callable[[list[str]], int]:
    def dispatch(_: list[str]) -> int:
        raise error

    return dispatch


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("events.jsonl: no such file"), 3, "livelist: events.jsonl: no such file\n"),
        (KeyboardInterrupt(), 130, "livelist: interrupted"),
        (
            RuntimeError("line one\nline two"),
            1,
            "livelist: RuntimeError: line one line two (--debug shows where)\n",
        ),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "_dispatch", failing(error))
    assert main(["run"]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("inside", "code", "said"),
    [
        (OutputError("the disk is full"), 4, "the disk is full"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device"), 4, "the disk is full"),
        (OSError("31823 requested and 16352 written"), 4, "the disk is full"),
    ],
)
def test_what_a_runner_has_wrapped_is_told_as_what_it_was(
    inside: BaseException, code: int, said: str
) -> None:
    try:
        try:
            raise inside
        except BaseException as error:
            raise RuntimeError("something [while running 'WriteTables']") from error
    except RuntimeError as wrapped:
        message, exit_code = explain_failure(wrapped)
    assert exit_code == code
    assert message.startswith(said)


def test_a_full_disk_is_told_with_the_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(28, "No space left on device [while running 'WriteTables']")
    monkeypatch.setattr(cli, "_dispatch", failing(error))
    assert main(["run", "--input=x", "--output", "here/out"]) == 4
    shown = capsys.readouterr().err
    assert shown == "livelist: the disk is full: here/out cannot be written; free some space and run again\n"


def test_a_runner_that_cannot_fetch_its_program_ends_with_5() -> None:
    error = RuntimeError("Unable to fetch remote prism binary at https://example.com/prism: refused")
    message, exit_code = explain_failure(error)
    assert exit_code == 5
    assert "--prism_location" in message


@pytest.mark.parametrize("shown", ["hello", "a  "])
def test_what_is_piped_has_no_spaces_at_line_ends_and_a_gone_reader_is_noticed(
    shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console = output_console()
    console.print(shown)
    assert capsys.readouterr().out == f"{shown.rstrip()}\n"
    with pytest.raises(BrokenPipeError):
        console.on_broken_pipe()


@pytest.mark.parametrize("flag", ["--streaming", "--follow"])
def test_arrow_lets_go_of_memory_in_an_endless_run_under_both_names_of_the_flag(
    flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "")
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL")
    assert main(["run", flag, "--input=x"]) == 2  # before anything runs
    assert os.environ["ARROW_DEFAULT_MEMORY_POOL"] == "system"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_dispatch", failing(InputError("gone")))
    with pytest.raises(InputError):
        main(["run", "--debug"])


def test_a_reader_that_leaves_early_is_no_error() -> None:
    ended = subprocess.run(
        [
            "bash",
            "-c",
            f"'{sys.executable}' -m pipeline.cli.main schema errors | head -1; echo ${{PIPESTATUS[0]}}",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert ended.stderr == ""
    assert ended.stdout.startswith("invalid_utf8")


def test_schema_prints_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "feedback"]) == 0
    assert "event_time" in json.loads(capsys.readouterr().out)["properties"]


def test_schema_lists_tables_with_comments_and_error_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "tables"]) == 0
    assert "recommendations_latest/" in capsys.readouterr().out
    assert main(["schema", "errors"]) == 0
    assert "burst_text" in capsys.readouterr().out
