"""The outputs of an artefact's graph: unit embedding and heads, each text by products of its own.

Reductions over several texts at once add in another order than over one; a product for each text does
not, so that a text's result has the same bits in every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import TensorProto

from models.export.checkpoint import Floats, Linear
from models.export.graph import GraphWriter

#: Makes the logits that are served, (batch, outputs), of a head's own and the unit embedding (batch, width)
#: in a graph, and names them.
LogitFusion = Callable[[GraphWriter, str, str], str]


@dataclass(frozen=True, slots=True)
class GraphHead:
    """One output: fusion((concatenated features @ linear.weight + linear.bias) / temperature, embedding).

    `features` are ("cls", layer) or ("mean", layer), layers counted from the last as -1.
    """

    output: str
    features: tuple[tuple[str, int], ...]
    linear: Linear  # (features, outputs)
    activation: Literal["softmax", "sigmoid"]
    temperature: float = 1.0
    fusion: LogitFusion | None = None


def add_outputs(graph: GraphWriter, states: Sequence[str], heads: Sequence[GraphHead]) -> dict[str, int]:
    """Adds `embedding` and an output a head to a graph; their widths by name.

    `states` are the values of `QuantizedEncoder.hidden_states`, (batch, tokens, hidden).
    """
    pooled: dict[tuple[str, int], str] = {("mean", -1): mean_tokens(graph, states[-1])}
    for feature in dict.fromkeys(feature for head in heads for feature in head.features):
        if feature not in pooled:
            pooling, layer = feature
            add = mean_tokens if pooling == "mean" else first_token
            pooled[feature] = add(graph, states[layer])
    embedding = graph.node("LpNormalization", pooled["mean", -1], axis=-1, p=2)
    graph.output(embedding, "embedding")
    for head in heads:
        _add_head(graph, pooled, embedding, head)
    return {head.output: int(head.linear.weight.shape[1]) for head in heads}


def _add_head(
    graph: GraphWriter, pooled: Mapping[tuple[str, int], str], embedding: str, head: GraphHead
) -> None:
    parts = [pooled[feature] for feature in head.features]
    features = parts[0] if len(parts) == 1 else graph.node("Concat", *parts, axis=-1)
    scale = np.float32(1 / head.temperature)
    logits = graph.node(
        "Add",
        product_each(graph, features, head.linear.weight * scale),
        graph.constant((head.linear.bias * scale).astype(np.float32)),
    )
    if head.fusion is not None:
        logits = head.fusion(graph, logits, embedding)
    if head.activation == "softmax":
        graph.output(graph.node("Softmax", logits, axis=-1), head.output)
    else:
        graph.output(graph.node("Sigmoid", logits), head.output)


def first_token(graph: GraphWriter, values: str) -> str:
    """[CLS]: (batch, tokens, width) to (batch, width)."""
    return graph.node("Gather", values, graph.constant(np.int64(0)), axis=1)


def mean_tokens(graph: GraphWriter, values: str) -> str:
    """The mean over the tokens, (batch, tokens, width) to (batch, width), as a product for each text."""
    tokens = graph.node("Shape", values, start=1, end=2)
    share = graph.node("Reciprocal", graph.node("Cast", tokens, to=TensorProto.FLOAT))
    shape = graph.node("Concat", integers(graph, 1), integers(graph, 1), tokens, axis=0)
    row = graph.node("Expand", share, shape)
    return graph.node("Squeeze", graph.node("MatMul", row, values), integers(graph, 1))


def product_each(graph: GraphWriter, features: str, weight: Floats) -> str:
    """(batch, features) @ (features, outputs), as a product for each text."""
    column = graph.node("Unsqueeze", features, integers(graph, 2))
    product = graph.node("MatMul", graph.constant(np.ascontiguousarray(weight.T, np.float32)), column)
    return graph.node("Squeeze", product, integers(graph, 2))


def integers(graph: GraphWriter, *values: int) -> str:
    """A constant int64 vector."""
    return graph.constant(np.array(values, np.int64))
