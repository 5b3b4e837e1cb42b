"""How the n-gram table joins the sentiment head in the graph."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.encoder.manifest import NGRAM_IDS
from models.export.checkpoint import Floats
from models.export.graph import GraphWriter
from models.export.outputs import LogitFusion, integers
from models.training.default_model.fusion import DIRECTION, Fusion


def quantize_table(table: Floats) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int8]], float]:
    """Symmetric int8 with one scale, and one row more, of zeros, for what pads n-grams."""
    scale = max(float(np.abs(table).max()), 1e-9) / 127
    rows = np.rint(table / scale).astype(np.int8)
    return np.append(rows, np.int8(0))[:, None], scale


def fuse_ngrams(table: Floats, fusion: Fusion) -> LogitFusion:
    """`Fusion.apply` in the graph, with the weights (buckets,) of n-grams."""

    def add(graph: GraphWriter, logits: str) -> str:
        one = graph.constant(np.float32(1))
        count = _count(graph, len(table))
        score, scale = _score(graph, table, count)
        direction = graph.constant((scale * fusion.trust * DIRECTION).astype(np.float32))
        step = graph.node(
            "Mul", graph.node("Min", count, one), graph.constant(np.float32(fusion.scale - fusion.plain))
        )
        factor = graph.node("Add", step, graph.constant(np.float32(fusion.plain)))
        return graph.node("Add", graph.node("Mul", logits, factor), graph.node("Mul", score, direction))

    return add


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
