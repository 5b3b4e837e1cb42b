"""Small artefacts made in the test: mean of word rows and linear heads, with every option of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.encoder.artefact import Artefact
from models.encoder.store import write_artefact

onnx = pytest.importorskip("onnx", reason="onnx is missing: pip install livelist[test]")

_LATIN = "[PAD] [UNK] [CLS] [SEP] good bad love hate it is the a zipper broke great ."
WORDS = [*_LATIN.split(), "好", "差", "很", "质", "量"]
WIDTH = 8


def tokenizer_json(words: list[str] = WORDS) -> str:
    """Whole words and single ideographs."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return str(tokenizer.to_str())


def manifest(**changes: object) -> dict[str, object]:
    """A contract with a mask and three outputs, changed where told; None leaves a key out."""
    plain: dict[str, object] = {
        "name": "tiny",
        "inputs": ["input_ids", "attention_mask"],
        "outputs": ["embedding", "sentiment", "intensity"],
        "precision": "fp32",
        "dimension": WIDTH,
        "max_length": 32,
        "languages": ["en", "zh"],
        "sentiment_labels": ["negative", "neutral", "positive"],
        "vocabulary": len(WORDS),
    }
    return {key: value for key, value in (plain | changes).items() if value is not None}


class _Graph:
    """Collects nodes and constants of one number type; methods return names of values."""

    def __init__(self, half: bool) -> None:
        self.number = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
        self._kind = np.float16 if half else np.float32
        self._rng = np.random.default_rng(7)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any, name: str) -> str:
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def random(self, rows: int, columns: int) -> Any:
        return self._rng.normal(size=(rows, columns)).astype(self._kind)

    def node(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        self.nodes.append(onnx.helper.make_node(op, inputs, [output or f"v{len(self.nodes)}"], **attributes))
        return str(self.nodes[-1].output[0])

    def value(self, name: str, number: int, *shape: str | int) -> Any:
        return onnx.helper.make_tensor_value_info(name, number, list(shape))


def model(description: Mapping[str, Any], extra_output: bool = False) -> bytes:
    """The graph that a description promises."""
    graph = _Graph(description["precision"] == "fp16")
    pooled = _pooled(graph, description)
    sizes = {"embedding": WIDTH, "sentiment": len(description.get("sentiment_labels", ())), "intensity": 1}
    sizes |= {head: len(description[head]["names"]) for head in ("topics", "intents") if head in description}
    for name in description["outputs"]:
        _add_output(graph, pooled, name, sizes[name])
    outputs = [graph.value(name, graph.number, "batch", sizes[name]) for name in description["outputs"]]
    if extra_output:
        graph.node("Identity", pooled, output="surprise")
        outputs.append(graph.value("surprise", graph.number, "batch", WIDTH))
    inputs = [
        graph.value(name, onnx.TensorProto.INT64, "batch", f"{name}_axis") for name in description["inputs"]
    ]
    made = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "tiny", inputs, outputs, graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return bytes(made.SerializeToString())


def _pooled(graph: _Graph, description: Mapping[str, Any]) -> str:
    """The mean of the words' rows, and the sum of the n-grams'."""
    rows = graph.random(len(WORDS), WIDTH)
    rows[WORDS.index("bad"), 0] = rows[WORDS.index("差"), 0] = 9
    rows[WORDS.index("good"), 0] = rows[WORDS.index("好"), 0] = -9
    axis = graph.constant([1], "axis")
    words = graph.node("Gather", graph.constant(rows, "rows"), "input_ids")
    if "attention_mask" in description["inputs"]:
        real = graph.node("Cast", "attention_mask", to=graph.number)
        mask = graph.node("Unsqueeze", real, graph.constant([2], "two"))
        total = graph.node("ReduceSum", graph.node("Mul", words, mask), axis, keepdims=0)
        pooled = graph.node("Div", total, graph.node("ReduceSum", mask, axis, keepdims=0))
    else:
        pooled = graph.node("ReduceMean", words, axes=[1], keepdims=0)
    if "ngram_ids" in description["inputs"]:
        table = graph.random(description["ngrams"]["buckets"] + 1, WIDTH)
        table[-1] = 0
        grams = graph.node("Gather", graph.constant(table, "ngrams"), "ngram_ids")
        pooled = graph.node("Add", pooled, graph.node("ReduceSum", grams, axis, keepdims=0))
    return pooled


def _add_output(graph: _Graph, pooled: str, name: str, size: int) -> None:
    if name == "embedding":
        graph.node("Div", pooled, graph.node("ReduceL2", pooled, axes=[-1], keepdims=1), output=name)
        return
    head = graph.random(WIDTH, size)
    if name == "sentiment":
        head[0] = np.linspace(1, -1, size)
    last = "Softmax" if name in ("sentiment", "intents") else "Sigmoid"
    graph.node(last, graph.node("MatMul", pooled, graph.constant(head, f"{name}_head")), output=name)


def write_tiny(folder: Path, **changes: object) -> Artefact:
    """A sound artefact with these changes to its description."""
    description = manifest(**changes)
    return write_artefact(folder, model(description), tokenizer_json(), description)
