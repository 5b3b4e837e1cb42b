"""An artefact whose parts do not fit together is refused before it scores anything, in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.encoder.artefact import (
    DEFAULT_MODEL_PATH,
    MANIFEST_NAME,
    MODEL_NAME,
    TOKENIZER_NAME,
    content_hash,
    content_version,
    load_artefact,
    read_manifest,
)
from models.encoder.encoders import open_encoder
from models.encoder.manifest import read_contract
from models.encoder.ngrams import describe_ngrams
from models.encoder.scorer import TextScorer
from models.encoder.store import write_artefact
from models.errors import DeploymentError
from tests.models.encoder.tiny import WORDS, manifest, model, onnx, tokenizer_json, write_tiny

TOPICS = {"names": ["quality", "price"], "thresholds": 0.4}


def test_the_contract_is_read_back_as_written(tmp_path: Path) -> None:
    artefact = write_tiny(
        tmp_path / "model",
        inputs=["input_ids", "ngram_ids"],
        outputs=["embedding", "sentiment", "topics", "intents"],
        ngrams=describe_ngrams(64),
        topics=TOPICS,
        intents={
            "names": ["ask", "none"],
            "out_of_scope": ["none"],
            "thresholds": [0.3, 0.6],
            "replace": True,
        },
    )
    contract = artefact.contract
    assert not contract.batched
    assert contract.widths() == {"embedding": 8, "sentiment": 3, "topics": 2, "intents": 2}
    assert contract.topics is not None
    assert contract.topics.thresholds == (0.4, 0.4)
    assert contract.intents is not None
    assert contract.intents.out_of_scope == {"none"}
    assert contract.intents.thresholds == (0.3, 0.6)
    assert contract.ngrams is not None
    assert contract.ngrams.buckets == 64
    assert [probe.text for probe in artefact.probes] == [
        probe.text for probe in artefact.probes if probe.input_ids
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ["attention_mask"]}, "inputs must have input_ids"),
        (
            {"inputs": ["input_ids", "token_type_ids"]},
            "inputs are among input_ids, attention_mask, ngram_ids",
        ),
        ({"inputs": "input_ids"}, "inputs must be a list of names"),
        ({"outputs": ["sentiment"]}, "outputs must have embedding"),
        ({"outputs": ["embedding", "logits"]}, "outputs are among embedding, sentiment"),
        ({"precision": "int4"}, "precision is one of int8, fp16, fp32"),
        ({"sentiment_labels": ["positive", "negative"]}, "expected labels"),
        ({"sentiment_labels": ["bad"]}, "expected labels"),
        ({"sentiment_labels": None}, "sentiment_labels must be a list of names"),
        ({"topics": TOPICS}, "topics must be described by an object when, and only when"),
        ({"outputs": ["embedding", "topics"]}, "topics must be described by an object when, and only when"),
        ({"inputs": ["input_ids", "ngram_ids"]}, "ngrams must be described when, and only when"),
        ({"ngrams": describe_ngrams(64)}, "ngrams must be described when, and only when"),
        ({"dimension": True}, "dimension must be a positive number"),
        ({"vocabulary": 0}, "vocabulary must be a positive number"),
        ({"languages": [1]}, "languages must be a list of names"),
        ({"languages": ["en", "en"]}, "languages must not repeat a name"),
    ],
)
def test_a_contract_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DeploymentError, match=message):
        read_contract(manifest(**changes), "manifest.json")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"names": []}, "names must not be empty"),
        ({"names": ["a", "b"], "thresholds": [0.5]}, "thresholds is one probability, or 2 of them"),
        ({"names": ["a"], "thresholds": 1.5}, "thresholds is one probability"),
        ({"names": ["a"], "out_of_scope": ["b"]}, "out_of_scope is among a"),
    ],
)
def test_a_head_that_makes_no_sense_is_refused(head: dict[str, Any], message: str) -> None:
    with pytest.raises(DeploymentError, match=message):
        read_contract(manifest(outputs=["embedding", "sentiment", "intents"], intents=head), "manifest.json")


def _write(tmp_path: Path, description: dict[str, Any], content: bytes, tokenizer: str = "") -> None:
    write_artefact(tmp_path / "model", content, tokenizer or tokenizer_json(), description)


def test_labels_that_do_not_match_the_head_are_refused(tmp_path: Path) -> None:
    description = manifest(sentiment_labels=["bad", "poor", "good", "great"])
    with pytest.raises(DeploymentError, match=r"'sentiment': 4.* got .*'sentiment': 3"):
        _write(tmp_path, description, model(manifest()))


def test_an_unexpected_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"got .*'surprise': 8"):
        _write(tmp_path, manifest(), model(manifest(), extra_output=True))


def test_an_input_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"expected the graph to map input_ids \(int64, two axes\)"):
        _write(tmp_path, manifest(inputs=["input_ids"]), model(manifest()))


def test_the_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    other = tokenizer_json([*WORDS, "one", "more"])
    message = f"made with a tokenizer of {len(WORDS)} tokens, but tokenizer.json has {len(WORDS) + 2}"
    with pytest.raises(DeploymentError, match=message):
        _write(tmp_path, manifest(), model(manifest()), other)


def test_a_tokenizer_of_the_same_size_with_other_words_is_found_by_the_probes(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "model").path
    _rewrite(folder, TOKENIZER_NAME, tokenizer_json([*WORDS[:4], *reversed(WORDS[4:])]).encode())
    with pytest.raises(DeploymentError, match="the tokenizer makes other tokens of"):
        TextScorer(folder)


def test_weights_that_do_not_give_what_was_exported_are_found_by_the_probes(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "model").path
    graph = onnx.load_from_string(model(manifest()))
    rows = next(constant for constant in graph.graph.initializer if constant.name == "rows")
    rows.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(rows)[::-1].copy(), "rows"))
    _rewrite(folder, MODEL_NAME, graph.SerializeToString())
    with pytest.raises(DeploymentError, match=r"has cosine|is .* away from the exported one"):
        TextScorer(folder)


@pytest.mark.parametrize("tokenizer", ["{}", "not JSON", '{"model": {"type": "WordPiece"}}'])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, tokenizer: str) -> None:
    with pytest.raises(DeploymentError, match=r"tokenizer.json is not a tokenizer"):
        _write(tmp_path, manifest(), model(manifest()), tokenizer)


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) // 2], lambda content: content[:100], lambda content: b""],
    ids=["half", "a beginning", "nothing"],
)
def test_a_graph_that_was_cut_before_it_was_hashed_is_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(DeploymentError, match=r"onnxruntime cannot load the model|expected the graph"):
        _write(tmp_path, manifest(), damage(model(manifest())))
    assert list(tmp_path.iterdir()) == []


def test_external_data_is_refused(tmp_path: Path) -> None:
    graph = onnx.load_from_string(model(manifest()))
    path = tmp_path / "external.onnx"
    onnx.save(graph, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(DeploymentError, match="keeps weights in another file"):
        _write(tmp_path, manifest(), path.read_bytes())


def test_nothing_but_a_model_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(DeploymentError, match="holds something else than a model"):
        write_tiny(folder)
    assert (folder / "thesis.txt").read_text() == "mine"


def test_a_changed_label_changes_the_version(tmp_path: Path) -> None:
    first = write_tiny(tmp_path / "a", languages=["en"])
    second = write_tiny(tmp_path / "b", languages=["en", "zh"])
    assert first.version != second.version
    path = second.path / MANIFEST_NAME
    path.write_text(path.read_text("utf-8").replace('"zh"', '"fr"'), "utf-8")
    with pytest.raises(DeploymentError, match="its files and contract make"):
        load_artefact(second.path)


def test_a_manifest_of_the_first_format_is_read() -> None:
    legacy = {"labels": ["negative", "neutral", "positive"], "dimension": 384, "max_length": 256}
    contract = read_contract(legacy, "manifest.json")
    assert contract.inputs == ("input_ids",)
    assert contract.outputs == ("embedding", "sentiment", "intensity")
    assert contract.precision == "int8"


def test_the_shipped_model_opens_and_its_manifest_says_what_it_maps() -> None:
    artefact = load_artefact(DEFAULT_MODEL_PATH)
    assert open_encoder(artefact).artefact.version == read_manifest(DEFAULT_MODEL_PATH)["version"]


def _rewrite(folder: Path, name: str, content: bytes) -> None:
    """Replaces a file and makes the hashes right again, so that only its content can be at fault."""
    (folder / name).write_bytes(content)
    stored = read_manifest(folder)
    hashes = {each: content_hash((folder / each).read_bytes()) for each in (MODEL_NAME, TOKENIZER_NAME)}
    stored["files"] = {each: {"sha256": value} for each, value in hashes.items()}
    stored["version"] = content_version(hashes, stored)
    (folder / MANIFEST_NAME).write_text(json.dumps(stored), "utf-8")


def test_fp16_outputs_are_read_as_float32(tmp_path: Path) -> None:
    scorer = TextScorer(write_tiny(tmp_path / "model", precision="fp16").path, threads=1)
    assert scorer.embed(["good"]).dtype == np.float32
