"""`livelist model` shows, compares, verifies and publishes artefacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.encoder.artefact import DEFAULT_MODEL_PATH, MODEL_NAME, read_manifest
from models.pointer import read_pointer
from pipeline.cli.main import main
from tests.models.encoder.tiny import write_tiny


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["model", *arguments])
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


def test_show_tells_what_the_shipped_model_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = _said(capsys, "show")
    manifest = read_manifest(DEFAULT_MODEL_PATH)
    assert code == 0
    for part in (manifest["name"], manifest["version"], "negative, neutral, positive", "Apache-2.0"):
        assert str(part) in said


def test_the_shipped_model_verifies(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = _said(capsys, "verify")
    assert code == 0
    assert "BROKEN" not in said
    assert "neighbours a text's neighbours move its embedding by at most" in said


def test_a_damaged_model_does_not_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tiny(tmp_path / "model").path
    (folder / MODEL_NAME).write_bytes(b"half of it")
    code, said = _said(capsys, "verify", str(folder))
    assert code == 1
    assert "BROKEN loading" in said
    assert "is damaged" in said


def test_two_models_are_compared_on_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("good\nbad zipper\n\nthe zipper broke\ngood\n", "utf-8")
    first, second = (
        write_tiny(tmp_path / name, languages=tags).path for name, tags in (("a", ["en"]), ("b", []))
    )
    code, said = _said(capsys, "compare", str(first), str(second), "--texts", str(texts))
    assert code == 0
    for part in ("3 scored by both; failed 0 and 0", "same side 100.0%", "p1 1.0000 / 1.0000", "size 1.00 x"):
        assert part in said


def test_a_model_is_published_where_jobs_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artefact = write_tiny(tmp_path / "model")
    root = tmp_path / "models"
    code, said = _said(capsys, "publish", str(artefact.path), "--to", str(root))
    assert code == 0
    assert artefact.version in said
    assert read_pointer(root) == root / artefact.version
    assert _said(capsys, "verify", str(root))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "nowhere"], 5, "no model at nowhere"),
        (["verify", "nowhere"], 1, "no model at nowhere"),
        (["compare", "a", "b", "--texts", "nowhere.txt"], 3, "cannot read nowhere.txt"),
        (["publish", "nowhere", "--to", "x"], 5, "no model at nowhere"),
        (["compare", "a", "b", "--texts", "x", "--threads", "-1"], 2, "--threads: expected a whole number"),
        (["burn"], 2, "invalid choice: 'burn'"),
        ([], 2, "ACTION"),
    ],
)
def test_what_cannot_be_done_is_told(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, said = _said(capsys, *arguments)
    assert found == code
    assert message in said
