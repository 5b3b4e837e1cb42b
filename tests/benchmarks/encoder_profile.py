"""Where the shipped encoder's time goes, and how much of what the processor could do it uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.encoder.artefact import load_artefact
from models.encoder.scorer import TextScorer
from models.encoder.tokens import TextEncoder

#: Multiply-adds times two of one MiniLM-L6 token, without attention and with it per token of context.
FLOP_A_TOKEN, FLOP_ATTENTION = 21.23e6, 9216.0
#: A matrix far larger than the model's: what the int8 units do when nothing else is asked of them.
PEAK_SHAPE = (512, 2048, 2048)
KINDS = {
    "int8 products": ("MatMulIntegerToFloat", "MatMulInteger", "DynamicQuantizeMatMul"),
    "attention, with its int8 product": ("QAttention", "MultiHeadAttention", "Attention"),
    "GELU": ("Gelu", "FastGelu"),
    "rounding to int8": ("QuantizeLinear", "ReduceMax", "Abs", "Max"),
    "layer norm": ("LayerNormalization", "SkipLayerNormalization"),
    "sums, scales and biases": ("Add", "Mul", "Div"),
}


def best_cpu(run: Callable[[], object], times: int, rounds: int = 5) -> float:
    """The least CPU seconds of one run."""
    run()
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            run()
        best = min(best, (time.process_time() - began) / times)
    return best


def report_roofline(scorer: TextScorer, path: Path, texts: Sequence[str], cpu: float) -> None:
    """The share of the int8 peak of one core, measured now, that `cpu` seconds for the texts come to."""
    peak = int8_peak()
    lengths = [len(features.ids) for features in TextEncoder(load_artefact(path)).encode(texts)]
    linear = FLOP_A_TOKEN * sum(lengths)
    attention = FLOP_ATTENTION * sum(length**2 for length in lengths)
    print(
        f"int8 peak of a core {peak / 1e9:.0f} GFLOP/s; livelist {(linear + attention) / cpu / 1e9:.0f} "
        f"GFLOP/s a CPU second: {(linear + attention) / peak / cpu:.0%} of the roofline"
    )


def int8_peak() -> float:
    """FLOP/s of one core in a large uint8 x int8 product."""
    import onnx
    import onnxruntime

    helper, types = onnx.helper, onnx.TensorProto
    m, k, n = PEAK_SHAPE
    rng = np.random.default_rng(0)
    weight = onnx.numpy_helper.from_array(rng.integers(-127, 127, (k, n)).astype(np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "peak",
        [helper.make_tensor_value_info("x", types.UINT8, [m, k])],
        [helper.make_tensor_value_info("y", types.INT32, [m, n])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), _options(), providers=["CPUExecutionProvider"]
    )
    feed = {"x": rng.integers(0, 255, (m, k)).astype(np.uint8)}
    return 2 * m * k * n / best_cpu(lambda: session.run(None, feed), 5)


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options


def report_profile(path: Path, texts: Sequence[str]) -> None:
    """Shares of the CPU time: tokenizer, each kind of node, and reading the outputs."""
    scorer = TextScorer(path, threads=1)
    inputs = TextEncoder(load_artefact(path))

    def score() -> None:
        scorer.forget()
        scorer.score(texts)

    total = best_cpu(score, 1)
    tokenize = best_cpu(lambda: inputs.encode(texts), 1)
    embed = best_cpu(lambda: scorer.embed(texts), 1)
    print(
        f"time of {len(texts)} texts: tokenizer {tokenize / total:.0%}, graph "
        f"{(embed - tokenize) / total:.0%}, language, topics, intent {max(0.0, total - embed) / total:.0%}"
    )
    nodes = _node_times(path, inputs, texts)
    whole = sum(nodes.values())
    kinds = {kind: sum(nodes[op] for op in ops) for kind, ops in KINDS.items()}
    kinds["everything else"] = whole - sum(kinds.values())
    print("of the graph: " + ", ".join(f"{kind} {took / whole:.0%}" for kind, took in kinds.items()))


def _node_times(path: Path, inputs: TextEncoder, texts: Sequence[str]) -> Counter[str]:
    import onnxruntime

    options = _options()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        artefact = load_artefact(path)
        session = onnxruntime.InferenceSession(artefact.model, options, providers=["CPUExecutionProvider"])
        for features in inputs.encode(texts):
            feed = {"input_ids": np.array([features.ids], np.int64)}
            if artefact.contract.ngrams is not None:
                feed["ngram_ids"] = features.ngrams[None]
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]] += event["dur"]
    return times


_COLD = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
from models.encoder import TextScorer
imported = time.perf_counter()
scorer = TextScorer(sys.argv[1], threads=2)
loaded = time.perf_counter()
used = time.process_time() - cpu
scorer.score([f"The strings number {i} broke after a week, " * (i % 25 + 1) for i in range(300)])
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(f"{imported - wall:.3f} {loaded - imported:.3f} {used:.3f} {peak / 1024:.0f}")
"""


def report_process(path: Path) -> None:
    """Cold load and peak memory of a fresh process that scores 300 texts; the best of three loads."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    }
    runs = []
    for _ in range(3):
        command = [sys.executable, "-c", _COLD, str(path)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        runs.append([float(value) for value in shown.split()])
    imports, load, cpu = (min(run[i] for run in runs) for i in range(3))
    print(
        f"fresh process: imports {imports:.2f} s, load {load:.2f} s ({cpu:.2f} CPU s together); "
        f"peak memory {max(run[3] for run in runs):.0f} MB after 300 texts"
    )
