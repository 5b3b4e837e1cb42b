"""How the n-gram table joins the sentiment head in the graph, and the answer is calibrated."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.encoder.manifest import NGRAM_IDS
from models.export.checkpoint import Floats
from models.export.graph import GraphWriter
from models.export.outputs import LogitFusion, integers, product_each
from models.training.default_model.fusion import DIRECTION, MOST_SURENESS, Fusion, Sureness


def quantize_table(table: Floats) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int8]], float]:
    """Symmetric int8 with one scale, and one row more, of zeros, for what pads n-grams."""
    scale = max(float(np.abs(table).max()), 1e-9) / 127
    rows = np.rint(table / scale).astype(np.int8)
    return np.append(rows, np.int8(0))[:, None], scale


def fuse_ngrams(table: Floats, fusion: Fusion, sureness: Sureness) -> LogitFusion:
    """`Fusion.apply` with the weights (buckets,) of n-grams, then `Sureness.apply`, in the graph."""

    def add(graph: GraphWriter, logits: str, embedding: str) -> str:
        one = graph.constant(np.float32(1))
        count = _count(graph, len(table))
        score, scale = _score(graph, table, count)
        direction = graph.constant((scale * fusion.trust * DIRECTION).astype(np.float32))
        step = graph.node(
            "Mul", graph.node("Min", count, one), graph.constant(np.float32(fusion.scale - fusion.plain))
        )
        factor = graph.node("Add", step, graph.constant(np.float32(fusion.plain)))
        fused = graph.node("Add", graph.node("Mul", logits, factor), graph.node("Mul", score, direction))
        return graph.node("Mul", fused, _sureness(graph, embedding, sureness))

    return add


def _sureness(graph: GraphWriter, embedding: str, sureness: Sureness) -> str:
    """What each text's logits are multiplied by, (batch, 1)."""
    exponent = graph.node(
        "Add",
        product_each(graph, embedding, sureness.weights[:, None]),
        graph.constant(np.float32(sureness.bias)),
    )
    low, high = (graph.constant(np.float32(bound)) for bound in (-MOST_SURENESS, MOST_SURENESS))
    return graph.node("Exp", graph.node("Clip", exponent, low, high))


def _count(graph: GraphWriter, buckets: int) -> str:
    """How many n-grams each text has, (batch, 1), without those that pad."""
    real = graph.node("Less", NGRAM_IDS, graph.constant(np.int64(buckets)))
    return graph.node(
        "ReduceSum", graph.node("Cast", real, to=TensorProto.FLOAT), integers(graph, 1), keepdims=1
    )


def _score(graph: GraphWriter, table: Floats, count: str) -> tuple[str, float]:
    """Each text's score (batch, 1) in steps of the scale; a sum of whole numbers is exact in any order."""
    rows, scale = quantize_table(table)
    weights = graph.node("Gather", graph.constant(rows, "ngram_rows"), NGRAM_IDS)
    weights = graph.node("Cast", weights, to=TensorProto.FLOAT)
    total = graph.node("ReduceSum", weights, integers(graph, 1), keepdims=0)
    root = graph.node("Sqrt", graph.node("Max", count, graph.constant(np.float32(1))))
    return graph.node("Div", total, root), scale
