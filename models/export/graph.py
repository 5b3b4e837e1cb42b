"""Writes a BERT encoder as one ONNX graph of our own: float32, or int8 ("q8").

Input `input_ids` (batch, tokens), all rows of one length and without padding, so there is no mask.
In q8 every activation is rounded with a scale that was fixed beforehand or that belongs to one token,
never to a tensor: what a text gives does not depend on the texts beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.export.checkpoint import Bert, Floats, Layer, Linear, Norm

OPSET = 17
CONTRIB = "com.microsoft"
INPUT_AXES = {"input_ids": "tokens", "attention_mask": "tokens", "ngram_ids": "ngrams"}
Attribute: TypeAlias = int | float | str | list[int]


@dataclass(slots=True)
class GraphWriter:
    """Collects nodes and constants; every method returns the name of a value."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, array: NDArray[np.generic] | np.generic, name: str = "") -> str:
        """Stores an array in the graph."""
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def node(self, op: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        """Adds one node and names its output."""
        node = helper.make_node(op, inputs, [f"{op}_{len(self.nodes)}"], domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return str(node.output[0])

    def output(self, value: str, name: str) -> None:
        """Gives a value its public name."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def model(
        self, outputs: dict[str, tuple[str | int, ...]], inputs: Sequence[str] = ("input_ids",)
    ) -> onnx.ModelProto:
        """The finished model; `outputs` maps each public name to its shape. Inputs are int64, two axes."""
        graph = helper.make_graph(
            self.nodes,
            "livelist",
            [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", INPUT_AXES[n]]) for n in inputs],
            [
                helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shape))
                for n, shape in outputs.items()
            ],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="livelist")


@dataclass(frozen=True, slots=True)
class StaticScale:
    """How an activation becomes uint8: divide by `smooth` per channel, then by `scale`, add `zero`."""

    smooth: Floats  # (channels,)
    scale: float
    zero: int  # 0..255


@dataclass(frozen=True, slots=True)
class LayerScales:
    """How the inputs of one layer's matrices become uint8.

    The second feed-forward's input is scaled token by token: a GELU's largest values are ten times the
    usual ones.
    """

    qkv: StaticScale
    context: StaticScale
    feed_in: StaticScale


# A gelu output lies in [-0.17, its token's maximum]; these levels keep both ends without clipping.
FEED_ZERO = 32
FEED_LEVELS = 255 - FEED_ZERO
FEED_SMALLEST_MAXIMUM = 1.2


def quantize_columns(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric int8 with one scale per output column."""
    scales = np.maximum(np.abs(weight).max(axis=0), 1e-12) / 127.0
    return np.clip(np.rint(weight / scales), -127, 127).astype(np.int8), scales.astype(np.float32)


def early_biases(bert: Bert) -> Bert:
    """The same encoder, with each second feed-forward's bias in the norm before the first.

    The residual carries it to the sum that it belongs to, which saves a pass; the first feed-forward's own
    bias takes it back. Scales are chosen for this form.
    """
    return replace(bert, layers=tuple(map(_early_bias, bert.layers)))


def _early_bias(layer: Layer) -> Layer:
    norm, first, second = layer.attention_norm, layer.feed_in, layer.feed_out
    return replace(
        layer,
        attention_norm=Norm(norm.gain, norm.bias + second.bias),
        feed_in=Linear(first.weight, first.bias - second.bias @ first.weight),
        feed_out=Linear(second.weight, np.zeros_like(second.bias)),
    )


class QuantizedEncoder:
    """Adds the q8 encoder to a graph: `hidden_states()` names the output of every layer.

    Inside, all tokens stand in one matrix (batch * tokens, hidden), so that a token's scale is an axis of
    QuantizeLinear and costs no pass of its own; only the attention sees the texts.
    """

    def __init__(self, graph: GraphWriter, bert: Bert, scales: tuple[LayerScales, ...]) -> None:
        self.graph, self.bert, self.scales = graph, early_biases(bert), scales

    def hidden_states(self, ids: str = "input_ids") -> list[str]:
        """Values of shape (batch, tokens, hidden): the embedding layer, then each layer."""
        g = self.graph
        sizes = g.node("Shape", ids)
        self._texts = g.node("Concat", sizes, self._int(self.bert.hidden), axis=0)
        self._rows = self._int(-1, self.bert.hidden)
        tokens = g.node("ReduceProd", sizes, keepdims=1)
        self._feed_zeros = g.node("Expand", g.constant(np.array([FEED_ZERO], np.uint8)), tokens)
        states = [g.node("Reshape", self._embed(ids), self._rows)]
        for layer, scales in zip(self.bert.layers, self.scales, strict=True):
            states.append(self._layer(states[-1], layer, scales))
        return [g.node("Reshape", state, self._texts) for state in states]

    def _embed(self, ids: str) -> str:
        g = self.graph
        rows, row_scales = quantize_columns(np.ascontiguousarray(self.bert.words.T))
        table = g.constant(rows.T, "word_rows")
        words = g.node("Cast", g.node("Gather", table, ids), to=TensorProto.FLOAT)
        scale = g.node("Gather", g.constant(row_scales[:, None], "word_scales"), ids)
        tokens = g.node("Slice", g.node("Shape", ids), self._int(1), self._int(2), self._int(0))
        positions = g.node(
            "Slice", g.constant(self.bert.positions, "positions"), self._int(0), tokens, self._int(0)
        )
        return self._norm(g.node("Add", g.node("Mul", words, scale), positions), self.bert.norm)

    def _layer(self, x: str, layer: Layer, scales: LayerScales) -> str:
        g = self.graph
        attended = self._attention_output(self._attention(x, layer, scales), layer, scales)
        x = self._norm(g.node("Add", attended, x), layer.attention_norm)
        fed = self._feed_out(g.node("Gelu", self._feed_in(x, layer, scales), domain=CONTRIB), layer)
        return self._norm(g.node("Add", fed, x), layer.output_norm)

    def _attention(self, x: str, layer: Layer, scales: LayerScales) -> str:
        """Values leave divided by the context's smoothing, so that rounding the context needs no product."""
        divide = np.ones(3 * layer.inner, np.float32)
        divide[2 * layer.inner :] = scales.context.smooth
        qkv = Linear(layer.qkv.weight / divide, layer.qkv.bias / divide)
        weight, column_scales = quantize_columns(qkv.weight * scales.qkv.smooth[:, None])
        g = self.graph
        context = g.node(
            "QAttention", g.node("Reshape", self._round(x, scales.qkv), self._texts), g.constant(weight),
            g.constant(qkv.bias), self._scale(scales.qkv), g.constant(column_scales), "",
            self._zero(scales.qkv), domain=CONTRIB, num_heads=layer.heads,
        )  # fmt: skip
        return g.node("Reshape", context, self._int(-1, layer.inner))

    def _attention_output(self, context: str, layer: Layer, scales: LayerScales) -> str:
        rounded = self.graph.node(
            "QuantizeLinear", context, self._scale(scales.context), self._zero(scales.context)
        )
        return self._static_matmul(rounded, scales.context, layer.attention_output)

    def _feed_in(self, x: str, layer: Layer, scales: LayerScales) -> str:
        return self._static_matmul(self._round(x, scales.feed_in), scales.feed_in, layer.feed_in)

    def _static_matmul(self, rounded: str, scale: StaticScale, linear: Linear) -> str:
        g = self.graph
        weight, column_scales = quantize_columns(linear.weight * scale.smooth[:, None])
        return g.node(
            "MatMulIntegerToFloat", rounded, g.constant(weight), self._scale(scale),
            g.constant(column_scales), self._zero(scale), "", g.constant(linear.bias), domain=CONTRIB,
        )  # fmt: skip

    def _feed_out(self, x: str, layer: Layer) -> str:
        """The distance of two levels of uint8 is each token's own. Its bias is in the residual already."""
        g, linear = self.graph, layer.feed_out
        largest = g.node(
            "Max",
            g.node("ReduceMax", x, axes=[-1], keepdims=0),
            g.constant(np.float32(FEED_SMALLEST_MAXIMUM)),
        )
        steps = g.node("Mul", largest, g.constant(np.float32(1 / FEED_LEVELS)))
        weight, scales = quantize_columns(linear.weight)
        product = g.node(
            "MatMulIntegerToFloat", g.node("QuantizeLinear", x, steps, self._feed_zeros, axis=0),
            g.constant(weight), g.constant(np.float32(1)), g.constant(scales),
            g.constant(np.uint8(FEED_ZERO)), domain=CONTRIB,
        )  # fmt: skip
        return g.node("Mul", product, g.node("Reshape", steps, self._int(-1, 1)))

    def _round(self, x: str, scale: StaticScale) -> str:
        smoothed = self.graph.node("Mul", x, self.graph.constant(1 / scale.smooth))
        return self.graph.node("QuantizeLinear", smoothed, self._scale(scale), self._zero(scale))

    def _norm(self, x: str, norm: Norm) -> str:
        g = self.graph
        return g.node(
            "LayerNormalization", x, g.constant(norm.gain), g.constant(norm.bias),
            axis=-1, epsilon=self.bert.epsilon,
        )  # fmt: skip

    def _scale(self, scale: StaticScale) -> str:
        return self.graph.constant(np.float32(scale.scale))

    def _zero(self, scale: StaticScale) -> str:
        return self.graph.constant(np.uint8(scale.zero))

    def _int(self, *values: int) -> str:
        return self.graph.constant(np.array(values, np.int64))
