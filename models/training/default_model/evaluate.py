"""Judges an artefact on the sets' test folds, beside linear baselines that learnt from their training folds.

    python -m models.training.default_model.evaluate [--model models/default] [--data ../shared/data]

Prints a Markdown table; --json also writes the figures. Sets that are not in the folder are left out.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.encoder.artefact import DEFAULT_MODEL_PATH, Artefact, load_artefact
from models.encoder.encoders import open_encoder
from models.encoder.tokens import TextEncoder
from models.export.checkpoint import pretrained_folder
from models.training.default_model.baselines import linear_words, vote_of_neighbours
from models.training.default_model.corpora import NEUTRAL, POSITIVE, Example, read_corpora
from models.training.default_model.probes import intent_figures, probe_intents
from models.training.default_model.recipe import say
from models.training.device import default_device, has_bf16
from models.training.evaluation import auc, calibration_error, macro_f1, spearman
from models.training.network import embed_texts, load_base
from models.training.tasks import Floats

Figures: TypeAlias = dict[str, float]
MOST_TESTS, MOST_TRAINING = 5_000, 60_000
INDEX_TEXTS, QUERY_TEXTS = 2_500, 1_000
COSINE_TEXTS = 500


@dataclass(frozen=True, slots=True)
class Answers:
    """What the artefact gives, one row a text."""

    embedding: Floats  # (texts, dimension)
    sentiment: Floats  # (texts, 3)
    intensity: Floats  # (texts,)


class Judge:
    """Runs an artefact as the job does: one text a call, at its exact length."""

    def __init__(self, artefact: Artefact, threads: int) -> None:
        self._encoder, self._session = TextEncoder(artefact), open_encoder(artefact)
        self._threads = threads

    def answer(self, texts: Sequence[str]) -> Answers:
        """The graph's outputs for texts, in order."""
        inputs = self._encoder.encode(texts)
        with ThreadPoolExecutor(self._threads) as pool:
            rows = list(pool.map(lambda one: self._session.run([one])[0], inputs, chunksize=32))
        return Answers(
            np.stack([row.embedding for row in rows]),
            np.stack([row.sentiment for row in rows if row.sentiment is not None]),
            np.array([row.intensity[0] for row in rows if row.intensity is not None], np.float32),
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("LIVELIST_DATA", "../shared/data"))
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL_PATH)
    parser.add_argument("--data", type=Path, default=data, help=f"folder of the sets, by default {data}")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    examples, _ = read_corpora(options.data)
    figures = judge(Judge(load_artefact(options.model), options.threads), examples)
    print(as_markdown(figures))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def judge(judged: Judge, examples: Sequence[Example]) -> dict[str, Figures]:
    """Figures by set; a baseline's name ends in _tfidf or _before."""
    figures: dict[str, Figures] = {}
    for corpus in sorted({e.corpus for e in examples if e.fold == "test" and e.sentiment != NEUTRAL}):
        say(f"judging {corpus}")
        test = spread([e for e in examples if e.corpus == corpus and e.fold == "test"], MOST_TESTS)
        if corpus in ("banking77", "clinc150"):
            continue
        figures[corpus] = sentiment_figures(judged, corpus, test, examples)
    for corpus in ("banking77", "clinc150"):
        chosen = [e for e in examples if e.corpus == corpus]
        if chosen:
            say(f"judging {corpus}")
            answers = judged.answer([e.text for e in chosen])
            figures[corpus] = intent_figures(probe_intents(chosen, answers.embedding), chosen)
    return figures | embedding_figures(judged, examples)


def sentiment_figures(
    judged: Judge, corpus: str, test: Sequence[Example], examples: Sequence[Example]
) -> Figures:
    """Without neutral texts: accuracy and AUC. With them: accuracy, macro-F1 and calibration error."""
    given = judged.answer([e.text for e in test])
    truth = np.array([e.sentiment for e in test])
    figures = polarity_figures(given.sentiment, truth)
    strengths = [e.intensity for e in test]
    if all(strength is not None for strength in strengths):
        figures["intensity_spearman"] = spearman(np.array(strengths, np.float64), given.intensity)
        for strength in sorted({float(strength) for strength in strengths if strength is not None}):
            rows = np.array(strengths, np.float64) == strength
            figures[f"intensity_at_{strength:g}"] = float(given.intensity[rows].mean())
        rating = np.sign(truth - NEUTRAL) * np.array(strengths, np.float64)
        figures["rating_spearman"] = spearman(rating, given.sentiment[:, 2] - given.sentiment[:, 0])
    source = "sst" if corpus == "mr" else corpus
    learnt = [e for e in examples if e.corpus == source and e.fold != "test" and e.sentiment is not None]
    if learnt and (truth != NEUTRAL).any():
        baseline = linear_words(spread(learnt, MOST_TRAINING), test)
        figures |= {f"{name}_tfidf": value for name, value in polarity_figures(baseline, truth).items()}
    return figures


def polarity_figures(given: Floats, truth: NDArray[np.int64]) -> Figures:
    """`given` are probabilities (texts, 3). Sets of two classes are calibrated without the neutral one."""
    sided = truth != NEUTRAL
    polarity = given[:, 2] - given[:, 0]
    positive = truth[sided] == POSITIVE
    right = (polarity[sided] > 0) == positive
    figures = {"texts": float(len(truth)), "accuracy": float(right.mean())}
    if 0 < positive.sum() < len(positive):
        figures["auc"] = auc(positive, polarity[sided])
        figures["balanced"] = float((right[positive].mean() + right[~positive].mean()) / 2)
    if sided.all():
        pair = given[:, [0, 2]] / given[:, [0, 2]].sum(axis=1, keepdims=True)
        figures["ece"] = calibration_error(pair.max(axis=1), right)
        figures["called_neutral"] = float((given.argmax(axis=1) == NEUTRAL).mean())
        return figures
    guess = given.argmax(axis=1)
    return figures | {
        "accuracy_3": float((guess == truth).mean()),
        "macro_f1": macro_f1(truth, guess),
        "ece": calibration_error(given.max(axis=1), guess == truth),
    }


def embedding_figures(judged: Judge, examples: Sequence[Example]) -> dict[str, Figures]:
    """How near the embedding is to the original's on English, and what its neighbours know of topics."""
    original, half = load_base(pretrained_folder()), has_bf16(default_device())
    figures: dict[str, Figures] = {}
    english = spread([e for e in examples if e.language == "en" and e.fold == "test"], COSINE_TEXTS)
    texts = [e.text for e in english]
    if texts:
        cosines = (judged.answer(texts).embedding * embed_texts(original, texts, 256)).sum(axis=1)
        figures["embedding, English"] = {
            "texts": float(len(texts)),
            "cosine": float(cosines.mean()),
            "cosine_p1": float(np.quantile(cosines, 0.01)),
        }
    for corpus in ("clothing", "zh_shopping"):
        say(f"neighbours of {corpus}")
        index, queries = _index_and_queries(corpus, examples)
        if index:
            both = [e.text for e in (*index, *queries)]
            found = {
                "knn": judged.answer(both).embedding,
                "knn_before": embed_texts(original, both, 256, bf16=half),
            }
            figures[f"topics, {corpus}"] = vote_of_neighbours(index, queries, found)
    return figures


def _index_and_queries(corpus: str, examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    chosen = [e for e in examples if e.corpus == corpus and e.topic]
    order = np.random.default_rng(0).permutation(len(chosen))
    shuffled = [chosen[i] for i in order]
    index = [e for e in shuffled if e.fold == "train"][:INDEX_TEXTS]
    return index, [e for e in shuffled if e.fold == "test"][:QUERY_TEXTS]


def spread(examples: Sequence[Example], most: int) -> list[Example]:
    """At most so many examples, at even distances."""
    places = np.linspace(0, len(examples) - 1, min(most, len(examples))).astype(int)
    return [examples[i] for i in places]


def as_markdown(figures: dict[str, Figures]) -> str:
    """One row a set: each figure, with its baseline in parentheses."""
    lines = [
        "| set | texts | figures (TF-IDF + logistic regression; for k-NN the encoder before) |",
        "|---|---|---|",
    ]
    for corpus, row in figures.items():
        cells = []
        for name, value in row.items():
            if name == "texts" or name.endswith(("_tfidf", "_before")):
                continue
            others = [f"{row[key]:.3f}" for key in (f"{name}_tfidf", f"{name}_before") if key in row]
            cells.append(f"{name} {value:.3f}" + (f" ({', '.join(others)})" if others else ""))
        lines.append(f"| {corpus} | {row.get('texts', 0):,.0f} | {', '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
