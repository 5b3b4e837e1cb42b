"""How fast the device path is: BERT-base at 128 tokens beside torch fp16 with SDPA, in one run on one card.

    python -m tests.benchmarks.bench_gpu [--texts 8192] [--rounds 5]
    python -m tests.benchmarks.bench_gpu --rehearse   # the same code on a CPU: figures mean nothing

Needs `onnxruntime-gpu` (never beside `onnxruntime`), torch and transformers. The weights are random: speed
does not depend on them. The graph is exported by torch, fused by onnxruntime's transformer optimizer and made
float16; every text has 128 tokens, so nothing is won or lost by padding.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.encoder.artefact import Artefact
from models.encoder.grid import CPU, CUDA, TENSORRT, GridSession, ShapeGrid
from models.encoder.manifest import read_contract
from models.encoder.tokens import EncoderInput

Floats = NDArray[np.float32]
AIM = 20_000  # texts a second of an H200-class card


@dataclass(frozen=True)
class Plan:
    """What is measured, and where."""

    layers: int
    tokens: int
    texts: int
    rounds: int
    tokens_a_call: int
    device: str  # of torch
    half: bool


def main() -> None:
    """Measures, or says that there is no card."""
    options = _parser().parse_args()
    if options.rehearse:
        print("a rehearsal on a CPU: two layers, float32; these figures say nothing about a GPU\n")
        measure(Plan(2, 128, 32, 1, 512, "cpu", False), [(CPU,)])
        return
    if absent := why_not():
        print(f"no GPU was measured: {absent}")
        return
    providers: list[tuple[str, ...]] = [(CUDA,)]
    if TENSORRT in onnxruntime.get_available_providers():
        providers.append((TENSORRT, CUDA))
    measure(Plan(12, 128, options.texts, options.rounds, options.tokens_a_call, "cuda", True), providers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens_a_call", type=int, default=ShapeGrid().tokens_a_call)
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, to see that it runs")
    return parser


def why_not() -> str:
    """What is missing for a measurement; empty when nothing is."""
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        return f"{error.name} is not installed"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    if CUDA not in onnxruntime.get_available_providers():
        return f"onnxruntime has {', '.join(onnxruntime.get_available_providers())}; install livelist[gpu]"
    return ""


def measure(plan: Plan, providers: Sequence[tuple[str, ...]]) -> None:
    """One table; the rounds alternate, and the median ratio of the rounds to torch stands beside each."""
    import torch

    if plan.device == "cuda":
        onnxruntime.preload_dlls()
        versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
        print(f"{torch.cuda.get_device_name()}, {versions}")
    model = bert_base(plan.layers)
    ids = np.random.default_rng(0).integers(1000, 30_000, (plan.texts, plan.tokens))
    exact = _torch_runner(model, plan, half=False)(ids[:64])
    runners = dict(_runners(model, plan, providers))
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    cosines = {name: _cosine(run(ids[:64]), exact) for name, run in runners.items()}  # and warms up
    for _ in range(plan.rounds):
        for name, run in runners.items():
            began = time.perf_counter()
            run(ids)
            seconds[name].append(time.perf_counter() - began)
    _report(plan, seconds, cosines)


def _report(plan: Plan, seconds: dict[str, list[float]], cosines: dict[str, float]) -> None:
    first = np.array(next(iter(seconds.values())))
    print(f"{plan.texts} texts of {plan.tokens} tokens, {plan.layers} layers of 768, {plan.rounds} rounds\n")
    print("| | texts a s | ratio | least cosine to float32 |\n|---|---|---|---|")
    for name, took in seconds.items():
        ratio = float(np.median(first / np.array(took)))
        print(f"| {name} | {plan.texts / min(took):.0f} | {ratio:.2f} | {cosines[name]:.5f} |")
    if plan.device == "cuda":
        print(f"\nthe aim is {AIM:,} texts a second on an H200-class card")


def _runners(
    model: Any, plan: Plan, providers: Sequence[tuple[str, ...]]
) -> Iterator[tuple[str, Callable[[NDArray[np.int64]], Floats]]]:
    kind = "float16" if plan.half else "float32"
    yield f"torch {kind}, SDPA", _torch_runner(model, plan, plan.half)
    artefact = device_artefact(model, plan)
    grid = ShapeGrid(tokens_a_call=plan.tokens_a_call)
    for names in providers:
        session = GridSession(artefact, names, grid)
        yield f"livelist {kind}, {names[0]}", _grid_runner(session)
    if plan.device == "cuda":
        session = GridSession(artefact, (CUDA,), grid, cuda_graphs=True)
        yield f"livelist {kind}, {CUDA} with CUDA graphs", _grid_runner(session)


def bert_base(layers: int) -> Any:
    """BERT-base of random weights; eager attention is what the optimizer knows how to fuse."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=layers, attn_implementation="eager")
    return BertModel(config, add_pooling_layer=False).eval()


def _torch_runner(model: Any, plan: Plan, half: bool) -> Callable[[NDArray[np.int64]], Floats]:
    import copy

    import torch

    placed = copy.deepcopy(model).to(plan.device)
    placed.set_attn_implementation("sdpa")
    placed = placed.half() if half else placed
    rows = max(1, plan.tokens_a_call // plan.tokens)

    def run(ids: NDArray[np.int64]) -> Floats:
        found = []
        with torch.inference_mode():
            for begin in range(0, len(ids), rows):
                batch = torch.from_numpy(ids[begin : begin + rows]).to(plan.device)
                pooled = placed(batch).last_hidden_state.float().mean(dim=1)
                found.append(torch.nn.functional.normalize(pooled, dim=1).cpu().numpy())
        return np.concatenate(found)

    return run


def _grid_runner(session: GridSession) -> Callable[[NDArray[np.int64]], Floats]:
    nothing = np.empty(0, np.int64)

    def run(ids: NDArray[np.int64]) -> Floats:
        inputs = [EncoderInput(row, nothing, False) for row in ids.tolist()]
        vectors = np.empty((len(ids), session.artefact.dimension), np.float32)
        for group in session.plan(inputs):
            vectors[group] = [output.embedding for output in session.run([inputs[i] for i in group])]
        return vectors

    return run


def device_artefact(model: Any, plan: Plan) -> Artefact:
    """The model as an artefact for devices, in memory."""
    contract = read_contract(
        {
            "inputs": ["input_ids", "attention_mask"],
            "outputs": ["embedding"],
            "precision": "fp16" if plan.half else "fp32",
            "dimension": 768,
            "max_length": plan.tokens,
        },
        "benchmark",
    )
    content = fused_onnx(model, plan.half)
    return Artefact(Path("benchmark"), "bert-base", "benchmark", contract, (), content, "", len(content))


def fused_onnx(model: Any, half: bool) -> bytes:
    """Exported, fused, and float16 inside when wanted; inputs and the embedding keep their types."""
    import torch
    from onnxruntime.transformers.optimizer import optimize_model

    class Embedding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
            weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
            return torch.nn.functional.normalize(pooled, dim=1)

    ids = torch.ones(2, 8, dtype=torch.long)
    axes = {name: {0: "batch", 1: "tokens"} for name in ("input_ids", "attention_mask")}
    with TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        path = f"{folder}/model.onnx"
        torch.onnx.export(
            Embedding(), (ids, ids), path, dynamo=False, opset_version=17,
            input_names=["input_ids", "attention_mask"], output_names=["embedding"],
            dynamic_axes=axes | {"embedding": {0: "batch"}},
        )  # fmt: skip
        fused = optimize_model(
            path, model_type="bert", num_heads=12, hidden_size=768, opt_level=0, use_gpu=half
        )
        if half:
            fused.convert_float_to_float16(keep_io_types=True)
        content: bytes = fused.model.SerializeToString()
    return content


def _cosine(found: Floats, exact: Floats) -> float:
    return float((found * exact).sum(axis=1).min())


if __name__ == "__main__":
    main()
