"""`train`, `distil`, `prune` and `export` from the command line to what they leave, on a toy of a BERT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is missing: make test-all")
pytest.importorskip("transformers", reason="transformers is missing: make test-all")

from pipeline.cli.main import main
from tests.models.training.tiny import make_rows, save_tiny_bert, write_rows

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
QUICK = ("--max_steps", "3", "--no_bf16", "--threads", "1", "--accept_embedding")
LEFT = {
    "README.md", "checkpoint", "config.json", "curves.html", "curves.png", "history.jsonl", "metrics.json",
    "tensorboard",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a head that no artefact serves."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_rows(folder / "reviews.jsonl", make_rows(240))
    base = save_tiny_bert(folder / "base")
    asked = ["train", "--base", str(base), "--data", str(data), "--output", str(folder / "first")]
    assert main([*asked, "--tasks", "sentiment", "rating", "--max_length", "16", *QUICK]) == 0
    return folder / "first"


def _config(folder: Path) -> dict[str, object]:
    config: dict[str, object] = json.loads((folder / "config.json").read_text())
    return config


def _length(folder: Path) -> object:
    arguments = _config(folder)["arguments"]
    assert isinstance(arguments, dict)
    return arguments["settings"]["max_length"]


def test_a_student_is_distilled(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, other = tmp_path / "small", tmp_path / "other"
    asked = ["distil", "--teacher", str(run), "--layers", "1", *QUICK]
    assert main([*asked, "--output", str(small)]) == 0
    said = capsys.readouterr().out
    assert "\nstudent  " in said
    assert f"{small}: a run; next: livelist export --model {small}" in said
    assert {path.name for path in small.iterdir()} == LEFT
    assert _config(small)["temperature"] == 2.0
    assert _length(small) == 16  # the teacher's
    data = ["--data", str(run.parent / "reviews.jsonl"), "--tasks", "sentiment"]
    assert main([*asked, *data, "--max_length", "12", "--output", str(other)]) == 0
    assert _length(other) == 12


def test_a_model_is_pruned_and_recovers(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = tmp_path / "fewer"
    asked = ["prune", "--model", str(run), "--layers", "1", "--recover_steps", "3", "--output", str(fewer)]
    assert main([*asked, *QUICK]) == 0
    said = capsys.readouterr().out
    assert "taken out: layer " in said
    assert "\nrecovered  sentiment accuracy" in said
    assert "\nembedding  cosine to before" in said
    assert {path.name for path in fewer.iterdir()} == LEFT
    assert _length(fewer) == 16


def test_pruning_that_spoils_the_embedding_fails_unless_that_is_accepted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["prune", "--model", str(run), "--layers", "1", "--threads", "1", "--no_bf16"]
    wild = [*asked, "--recover_steps", "40", "--rate", "0.05", "--hold_embedding", "0"]
    assert main([*wild, "--output", str(tmp_path / "refused")]) == 1
    assert "Take out less, or recover for longer with --recover_steps" in capsys.readouterr().err
    assert main([*wild, "--output", str(tmp_path / "taken"), "--accept_embedding"]) == 0


@pytest.mark.parametrize("quantize", ["int8", "none"])
def test_a_run_is_exported_and_its_unserved_heads_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], quantize: str
) -> None:
    artefact = tmp_path / "artefact"
    assert main(["export", "--model", str(run), "--output", str(artefact), "--quantize", quantize]) == 0
    said = capsys.readouterr().out
    assert f"{artefact}: first " in said
    assert "not served: rating; " in said
    assert main(["score", "--model", str(artefact), "a great shoe"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert set(score["sentiment"]) == {"negative", "neutral", "positive"}
