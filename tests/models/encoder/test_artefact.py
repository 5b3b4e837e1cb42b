"""An artefact that is not what its manifest promises is refused, in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.encoder.artefact import (
    DEFAULT_MODEL_PATH,
    MANIFEST_NAME,
    MODEL_NAME,
    TOKENIZER_NAME,
    content_hash,
    content_version,
    load_artefact,
)
from models.errors import DeploymentError

MAX_BYTES = 32 * 1024 * 1024


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(DEFAULT_MODEL_PATH, tmp_path / "model")
    return tmp_path / "model"


def _edit_manifest(folder: Path, edit: Callable[[dict[str, object]], None]) -> None:
    path = folder / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def _replace_model(folder: Path, content: bytes) -> None:
    """A model whose hashes are right, so that only its content can be at fault."""
    (folder / MODEL_NAME).write_bytes(content)
    hashes = {name: content_hash((folder / name).read_bytes()) for name in (MODEL_NAME, TOKENIZER_NAME)}
    files = {name: {"sha256": value} for name, value in hashes.items()}
    _edit_manifest(folder, lambda manifest: manifest.update(files=files))
    _reseal(folder)


def _reseal(folder: Path) -> None:
    """A version that is right, so that only the contract can be at fault."""
    hashes = {name: content_hash((folder / name).read_bytes()) for name in (MODEL_NAME, TOKENIZER_NAME)}
    _edit_manifest(folder, lambda manifest: manifest.update(version=content_version(hashes, manifest)))


def test_the_shipped_model_verifies_and_is_small_enough_to_clone() -> None:
    artefact = load_artefact(DEFAULT_MODEL_PATH)
    assert artefact.dimension == 384
    assert artefact.max_length == 256
    assert artefact.languages == {"en", "zh"}
    assert sum(path.stat().st_size for path in DEFAULT_MODEL_PATH.iterdir()) <= MAX_BYTES


def test_the_shipped_manifest_names_its_base_its_data_and_how_good_it_is() -> None:
    manifest = json.loads((DEFAULT_MODEL_PATH / MANIFEST_NAME).read_text())
    assert manifest["base_model"]["licence"] == "Apache-2.0"
    assert {"name", "licence"} <= set(manifest["training_data"][0])
    assert manifest["metrics"]["cosine_to_fp32"]["mean"] >= 0.998
    assert manifest["metrics"]["cosine_to_fp32"]["p1"] >= 0.995
    assert manifest["metrics"]["after"]["sentiment"]["auc"] >= 0.95


@pytest.mark.parametrize("name", [MODEL_NAME, TOKENIZER_NAME])
def test_one_flipped_bit_is_found(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(DeploymentError, match=f"{name} is damaged"):
        load_artefact(copy)


def test_a_truncated_model_is_found(copy: Path) -> None:
    content = (copy / MODEL_NAME).read_bytes()
    (copy / MODEL_NAME).write_bytes(content[: len(content) // 2])
    with pytest.raises(DeploymentError, match=r"model.onnx is damaged \([\d,]+ bytes\)"):
        load_artefact(copy)


def test_another_models_tokenizer_is_found(copy: Path) -> None:
    (copy / TOKENIZER_NAME).write_text('{"model": {"type": "WordPiece"}}')
    with pytest.raises(DeploymentError, match=r"tokenizer.json is damaged"):
        load_artefact(copy)


def test_a_missing_folder_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"manifest.json is missing; give the folder"):
        load_artefact(tmp_path / "nowhere")


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / MODEL_NAME).unlink()
    with pytest.raises(DeploymentError, match=r"cannot read .*model.onnx: No such file"):
        load_artefact(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '{"format": 99}', '{"files": {}}'])
def test_a_broken_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / MANIFEST_NAME).write_text(text)
    with pytest.raises(DeploymentError, match=MANIFEST_NAME):
        load_artefact(copy)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sentiment_labels", ["positive", "negative"], "expected labels"),
        ("dimension", 0, "dimension must be a positive number"),
        ("max_length", "256", "max_length must be a positive number"),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(copy: Path, field: str, value: object, message: str) -> None:
    _edit_manifest(copy, lambda manifest: manifest.update({field: value}))
    _reseal(copy)
    with pytest.raises(DeploymentError, match=message):
        load_artefact(copy)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("files", {}, "no hash for model.onnx, tokenizer.json"),
        ("version", "000000000000", "its files and contract make"),
        ("max_length", 128, "its files and contract make"),
    ],
)
def test_a_manifest_that_was_edited_is_refused(copy: Path, field: str, value: object, message: str) -> None:
    _edit_manifest(copy, lambda manifest: manifest.update({field: value}))
    with pytest.raises(DeploymentError, match=message):
        load_artefact(copy)


def test_weights_in_another_file_are_refused(copy: Path) -> None:
    # A tensor with the entry ("location", "weights.bin") in its external data, as protobuf writes it.
    entry = b"\x0a\x08location\x12\x0bweights.bin"
    _replace_model(copy, (copy / MODEL_NAME).read_bytes() + entry)
    with pytest.raises(DeploymentError, match="keeps weights in another file"):
        load_artefact(copy)


def test_the_version_follows_the_content_alone() -> None:
    hashes = {"b": "2", "a": "1"}
    assert content_version(hashes) == content_version({"a": "1", "b": "2"})
    assert content_version(hashes) != content_version({"a": "2", "b": "1"})
    assert len(content_version(hashes)) == 12
