"""The commands around training: without torch they say so, and their flags become settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from models.errors import DeploymentError, UsageError
from pipeline.cli import distil, export, prune, train
from pipeline.cli.parsing import CommandParser
from pipeline.cli.training_flags import (
    prepare_training,
    read_columns,
    read_further_request,
    read_settings,
)
from pipeline.cli.training_view import ProgressWatcher

ROOT = Path(__file__).resolve().parents[3]

#: Runs a command where torch cannot be found, wherever it is installed.
WITHOUT_TORCH = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else find(name, package)
from pipeline.cli.main import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--base", "x", "--data", "y", "--output", "z"],
        ["distil", "--teacher", "x", "--layers", "2", "--output", "z"],
        ["prune", "--model", "x", "--layers", "2", "--output", "z"],
        ["export", "--model", "x", "--output", "z"],
    ],
)
def test_without_torch_one_line_says_what_to_install(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert done.stderr.count("\n") == 1
    assert "pip install 'livelist[train]', or make install-all" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_flags_become_settings() -> None:
    args = train.parse(
        CommandParser("livelist train"),
        [
            *("--base", "b", "--data", "d", "--output", "o", "--mode", "lora", "--epochs", "2"),
            *("--no_bf16", "--map", "text=body", "rating=stars"),
        ],
    )
    settings = read_settings(args)
    assert (settings.mode, settings.epochs, settings.bf16, settings.rate) == ("lora", 2.0, False, 3e-4)
    assert read_columns(args) == {"text": "body", "rating": "stars"}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--dropout 1.5", r"dropout must be in \[0, 1\), got 1.5"),
        ("--batch_size 0", "batch_size must be at least 1, got 0"),
        ("--epochs 0", "expected epochs or max_steps above 0"),
        ("--epochs nan", "epochs must be a finite number, got nan"),
        ("--epochs inf", "epochs must be a finite number, got inf"),
        ("--rate nan", "rate must be a finite number, got nan"),
        ("--max_steps -5", "max_steps must be at least 0, got -5"),
        ("--clip -1", "clip must be at least 0, got -1.0"),
        ("--patience -1", "patience must be at least 0, got -1"),
        ("--seed -1", "seed must be at least 0, got -1"),
        ("--seed 4294967296", "seed must be below 4294967296, got 4294967296"),
        ("--adversarial -1", "adversarial must be at least 0, got -1.0"),
        ("--hold_embedding -5", "hold_embedding must be at least 0, got -5.0"),
    ],
)
def test_settings_out_of_range_are_refused(flags: str, says: str) -> None:
    args = train.parse(CommandParser("livelist train"), f"--base b --data d --output o {flags}".split())
    with pytest.raises(UsageError, match=says):
        read_settings(args)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (train, "--base b --data d --output o --ask -3"),
        (prune, "--model m --layers 1 --output o --recover_steps -3"),
    ],
)
def test_a_number_of_texts_or_steps_is_not_negative(command: ModuleType, arguments: str) -> None:
    with pytest.raises(UsageError, match="expected a whole number of at least 0, got '-3'"):
        command.parse(CommandParser("livelist"), arguments.split())


@pytest.mark.parametrize(
    "flags",
    [
        "--map text=body",
        "--tasks sentiment",
        "--labels l.json",
        "--rating_scale 1:5",
        "--sentiment_classes 3",
        "--validation v.jsonl",
        "--validation_share 0.1",
    ],
)
def test_flags_about_data_are_refused_where_a_run_brings_its_own(flags: str) -> None:
    for command, arguments in ((distil, "--teacher r"), (prune, "--model r")):
        args = command.parse(CommandParser("livelist"), f"{arguments} --layers 1 --output o {flags}".split())
        with pytest.raises(UsageError, match=f"{flags.split()[0]}: without --data the texts and labels are"):
            read_further_request(args, "r")


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ("", "matplotlib"),
        ("--mode full", "tensorboard"),
        ("--mode lora", "peft"),
        ("--mode lora", "torch, peft"),
    ],
)
def test_a_missing_package_is_told_at_the_start(
    flags: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = train.parse(CommandParser("livelist"), f"--base b --data d --output o {flags}".split())
    absent = {*missing.split(", "), "peft"}
    monkeypatch.setattr("models.training.find_spec", lambda name: None if name in absent else name)
    with pytest.raises(DeploymentError, match=f"training needs {missing}: pip install"):
        prepare_training(args)


def test_without_a_terminal_a_line_comes_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = 0.0
    watcher = ProgressWatcher(None, now=lambda: seconds)
    for step in range(101, 201):  # a run that went on from step 100, five seconds a step
        watcher.step(step, 1200, {"sentiment": 0.5, "topics": 0.25}, 1e-3)
        seconds += 5
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 107 of 1,200: loss 0.750, 1:31:05 left"
    assert len(lines) == 16


def test_a_map_without_a_column_is_refused() -> None:
    parser = CommandParser("livelist export")
    args = export.parse(parser, ["--model", "m", "--output", "o", "--data", "d", "--map", "text"])
    with pytest.raises(UsageError, match="expected FIELD=COLUMN such as text=body, got 'text'"):
        read_columns(args)


@pytest.mark.parametrize("command", [train, distil, prune, export])
def test_the_example_parses(command: ModuleType) -> None:
    words = str(command.EXAMPLE).split()
    assert command.parse(CommandParser("livelist"), words[2:])
