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


def model(description: Mapping[str, Any], extra_output: bool = False) -> bytes:
    """The graph that a description promises."""
    helper, types = onnx.helper, onnx.TensorProto
    half = description["precision"] == "fp16"
    number = types.FLOAT16 if half else types.FLOAT
    kind = np.float16 if half else np.float32
    rng = np.random.default_rng(7)
    constants: list[Any] = []
    nodes: list[Any] = []

    def constant(array: Any, name: str) -> str:
        constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def node(op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output or f"v{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    rows = rng.normal(size=(len(WORDS), WIDTH)).astype(kind)
    rows[WORDS.index("bad"), 0] = rows[WORDS.index("差"), 0] = 9
    rows[WORDS.index("good"), 0] = rows[WORDS.index("好"), 0] = -9
    ones = constant(np.array([1], np.int64), "axis")
    words = node("Gather", constant(rows, "rows"), "input_ids")
    if "attention_mask" in description["inputs"]:
        real = node("Cast", "attention_mask", to=number)
        mask = node("Unsqueeze", real, constant(np.array([2], np.int64), "two"))
        total = node("ReduceSum", node("Mul", words, mask), ones, keepdims=0)
        pooled = node("Div", total, node("ReduceSum", mask, ones, keepdims=0))
    else:
        pooled = node("ReduceMean", words, axes=[1], keepdims=0)
    if "ngram_ids" in description["inputs"]:
        table = rng.normal(size=(description["ngrams"]["buckets"] + 1, WIDTH)).astype(kind)
        table[-1] = 0
        grams = node("Gather", constant(table, "ngrams"), "ngram_ids")
        pooled = node("Add", pooled, node("ReduceSum", grams, ones, keepdims=0))
    sizes = {"embedding": WIDTH, "sentiment": len(description.get("sentiment_labels", ())), "intensity": 1}
    sizes |= {head: len(description[head]["names"]) for head in ("topics", "intents") if head in description}
    last = {"sentiment": "Softmax", "intents": "Softmax", "intensity": "Sigmoid", "topics": "Sigmoid"}
    for name in description["outputs"]:
        if name == "embedding":
            length = node("ReduceL2", pooled, axes=[-1], keepdims=1)
            node("Div", pooled, length, output=name)
            continue
        head = rng.normal(size=(WIDTH, sizes[name])).astype(kind)
        if name == "sentiment":
            head[0] = np.linspace(1, -1, sizes[name])
        node(last[name], node("MatMul", pooled, constant(head, f"{name}_head")), output=name)
    outputs = [helper.make_tensor_value_info(n, number, ["batch", sizes[n]]) for n in description["outputs"]]
    if extra_output:
        node("Identity", pooled, output="surprise")
        outputs.append(helper.make_tensor_value_info("surprise", number, ["batch", WIDTH]))
    inputs = [
        helper.make_tensor_value_info(n, types.INT64, ["batch", f"{n}_axis"]) for n in description["inputs"]
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def write_tiny(folder: Path, **changes: object) -> Artefact:
    """A sound artefact with these changes to its description."""
    description = manifest(**changes)
    return write_artefact(folder, model(description), tokenizer_json(), description)
