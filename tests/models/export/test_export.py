"""The torch side: our reference is BERT, our int8 graph is close to it, and batches change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is missing: make test-all")
torch = pytest.importorskip("torch", reason="torch is missing: make test-all")
transformers = pytest.importorskip("transformers", reason="transformers is missing: make test-all")

import onnxruntime  # noqa: E402

from models.export.calibration import choose_scales, run_reference  # noqa: E402
from models.export.checkpoint import Bert, bert_of  # noqa: E402
from models.export.graph import GraphWriter, QuantizedEncoder, early_biases, quantize_columns  # noqa: E402
from models.training.evaluation import auc, calibration_error  # noqa: E402

pytestmark = pytest.mark.train
VOCABULARY = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT of random weights."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=64,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bert")
    model = transformers.BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for layer in model.encoder.layer:  # which are 0 otherwise, and could be anywhere
            layer.output.dense.bias.normal_(std=0.5)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def bert(folder: Path) -> Bert:
    return bert_of(transformers.AutoModel.from_pretrained(folder))


def _texts(count: int, tokens: int) -> list[list[int]]:
    return np.random.default_rng(1).integers(0, VOCABULARY, (count, tokens)).tolist()


def _reference_embedding(bert: Bert, ids: list[int]) -> npt.NDArray[np.float32]:
    """Mean over tokens of the last layer, unit length, in float32."""
    *_, (states, _) = run_reference(bert, ids)
    pooled = states.mean(axis=0)
    return np.asarray(pooled / np.linalg.norm(pooled), np.float32)


def _session(bert: Bert) -> onnxruntime.InferenceSession:
    graph = GraphWriter()
    states = QuantizedEncoder(graph, bert, choose_scales(bert, _texts(20, 12))).hidden_states()
    pooled = graph.node("ReduceMean", states[-1], axes=[1], keepdims=0)
    graph.output(graph.node("LpNormalization", pooled, axis=-1, p=2), "embedding")
    model = graph.model({"embedding": ("batch", bert.hidden)}).SerializeToString()
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def test_the_reference_is_the_checkpoint(folder: Path, bert: Bert) -> None:
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    for ids in _texts(3, 17):
        with torch.inference_mode():
            pooled = model(torch.tensor([ids])).last_hidden_state[0].mean(0).numpy()
        assert np.allclose(_reference_embedding(bert, ids), pooled / np.linalg.norm(pooled), atol=1e-5)


def test_the_int8_graph_is_close_to_float32(bert: Bert) -> None:
    session = _session(bert)
    for ids in (*_texts(5, 12), *_texts(5, 3), *_texts(2, 60)):
        embedding = session.run(None, {"input_ids": np.array([ids])})[0][0]
        assert float(embedding @ _reference_embedding(bert, ids)) > 0.999


def test_a_bias_that_comes_early_changes_nothing(bert: Bert) -> None:
    moved = early_biases(bert)
    assert all(np.any(layer.feed_out.bias) for layer in bert.layers)
    assert not any(np.any(layer.feed_out.bias) for layer in moved.layers)
    for ids in _texts(3, 17):
        assert np.allclose(_reference_embedding(moved, ids), _reference_embedding(bert, ids), atol=1e-6)


def test_a_text_gives_the_same_in_any_batch(bert: Bert) -> None:
    session = _session(bert)
    ids = np.array(_texts(8, 12))
    together = session.run(None, {"input_ids": ids})[0]
    alone = np.concatenate([session.run(None, {"input_ids": row[None]})[0] for row in ids])
    assert np.abs(together - alone).max() < 1e-6


def test_columns_are_rounded_to_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(30, 7)).astype(np.float32)
    rounded, scales = quantize_columns(weight)
    assert np.all(np.abs(rounded * scales - weight) <= scales / 2 + 1e-7)


def test_auc_counts_ties_as_halves() -> None:
    positive = np.array([True, True, False, False])
    assert auc(positive, np.array([2.0, 1.0, 1.0, 0.0])) == 0.875
    assert auc(positive, np.zeros(4)) == 0.5


def test_calibration_error_is_the_gap_between_claim_and_truth() -> None:
    confidence = np.full(100, 0.9, np.float32)
    assert calibration_error(confidence, np.arange(100) < 90) == pytest.approx(0, abs=1e-6)
    assert calibration_error(confidence, np.arange(100) < 50) == pytest.approx(0.4, abs=1e-6)
