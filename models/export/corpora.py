"""Reads the review sets whose labels the heads learn; every text carries its fold, by hash."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

NEGATIVE, NEUTRAL, POSITIVE = 0, 1, 2
HELD_OUT_PERCENT = 20


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One text. `intensity` in [0, 1] is the distance of its rating from the scale's middle; None unknown."""

    corpus: str
    text: str
    sentiment: int
    intensity: float | None
    held_out: bool


@dataclass(frozen=True, slots=True)
class Corpus:
    """A set on disk: what the model card says of it, and how it is read."""

    name: str
    path: str  # below the data folder
    licence: str
    read: Callable[[Path], Iterator[LabelledText]]


def is_held_out(text: str) -> bool:
    """A fifth of all texts, the same ones in every run and in every order."""
    digest = hashlib.sha256(text.strip().lower().encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


def from_stars(corpus: str, text: str, stars: float) -> LabelledText:
    """1 and 2 stars are negative, 3 neutral, 4 and 5 positive; intensity is |stars - 3| / 2."""
    sentiment = NEGATIVE if stars < 3 else POSITIVE if stars > 3 else NEUTRAL
    return LabelledText(corpus, text, sentiment, abs(stars - 3) / 2, is_held_out(text))


def read_clothing(path: Path) -> Iterator[LabelledText]:
    """The CC0 women's clothing reviews, from the zip as published: each review, and each title alone."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".csv"))
        with archive.open(name) as raw:
            for row in csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8")):
                if row["Review Text"].strip():
                    review = from_stars("womens_clothing_reviews", row["Review Text"], float(row["Rating"]))
                    yield review
                    if row["Title"].strip():
                        yield replace(review, corpus="womens_clothing_titles", text=row["Title"])


def read_amazon(path: Path) -> Iterator[LabelledText]:
    """Reviews of one Amazon category (2018 dump), each distinct text once."""
    seen: set[str] = set()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            review = json.loads(line)
            text = str(review.get("reviewText") or "").strip()
            if text and text not in seen:
                seen.add(text)
                yield from_stars(path.parent.name, text, float(review["overall"]))


def read_sst(path: Path) -> Iterator[LabelledText]:
    """SST-5 sentences; `stsa.fine.train` is for training, any other file is held out."""
    for line in path.read_text(encoding="latin-1").splitlines():
        label, text = line.split(" ", 1)
        scored = from_stars("sst", undo_treebank(text), int(label) + 1)
        yield LabelledText("sst", scored.text, scored.sentiment, scored.intensity, "train" not in path.name)


def read_cr(path: Path) -> Iterator[LabelledText]:
    """Customer reviews of electronics, negative or positive sentences."""
    for line in path.read_text(encoding="latin-1").splitlines():
        label, text = line.split(" ", 1)
        text = undo_treebank(text)
        yield LabelledText("cr", text, POSITIVE if label == "1" else NEGATIVE, None, is_held_out(text))


def read_airline(path: Path) -> Iterator[LabelledText]:
    """Tweets to airlines in three classes; the handle in front is dropped."""
    labels = {"negative": NEGATIVE, "neutral": NEUTRAL, "positive": POSITIVE}
    with path.open(encoding="utf-8", errors="replace", newline="") as rows:
        for row in csv.DictReader(rows):
            text = " ".join(word for word in row["text"].split() if not word.startswith("@"))
            if text and row["airline_sentiment"] in labels:
                yield LabelledText("airline", text, labels[row["airline_sentiment"]], None, is_held_out(text))


def undo_treebank(text: str) -> str:
    """Joins what a treebank tokenizer split, so that the words look as people write them."""
    for split, joined in ((" n't", "n't"), (" '", "'"), (" ,", ","), (" .", "."), (" !", "!"), (" ?", "?")):
        text = text.replace(split, joined)
    return text.replace("-lrb- ", "(").replace(" -rrb-", ")").strip()


CLOTHING = Corpus("womens_clothing_reviews", "womens_clothing_reviews", "CC0", read_clothing)
#: Sets that the heads may learn from beside the clothing reviews; none of their text is kept.
MORE_CORPORA = (
    Corpus("sst", "sentence_classification_sst_cr_trec/stsa.fine.train", "research release", read_sst),
    Corpus("sst", "sentence_classification_sst_cr_trec/stsa.fine.test", "research release", read_sst),
    Corpus("cr", "sentence_classification_sst_cr_trec/custrev.all", "research release", read_cr),
    Corpus("airline", "twitter_airline_2015/Tweets.csv", "CC BY-NC-SA 4.0", read_airline),
    Corpus(
        "amazon_all_beauty_5core_2018",
        "amazon_all_beauty_5core_2018/All_Beauty_5.json.gz",
        "research release",
        read_amazon,
    ),
)


def balance(texts: list[LabelledText], per_class: int, seed: int = 0) -> list[LabelledText]:
    """At most `per_class` texts of each sentiment, drawn with the seed."""
    order = np.random.default_rng(seed).permutation(len(texts))
    counts = [0, 0, 0]
    kept = []
    for i in order:
        if counts[texts[i].sentiment] < per_class:
            counts[texts[i].sentiment] += 1
            kept.append(texts[i])
    return kept
