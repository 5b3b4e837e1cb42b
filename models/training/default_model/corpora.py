"""The sets the default model learns from and is judged on; every text carries its fold.

A set without folds of its own is split by hash of the text, so the folds are the same in every run, in
every order, and for a text that occurs twice.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

NEGATIVE, NEUTRAL, POSITIVE = 0, 1, 2
Fold = Literal["train", "dev", "test"]
TEST_PERCENT, DEV_PERCENT = 20, 4

_SENTENCES = "sentence_classification_sst_cr_trec"
_WRITTEN: Final = Path(__file__).parent / "data" / "reviews.tsv"
_STARS_TITLE = re.compile(r"(?i)(one|two|three|four|five) stars?\W*")


@dataclass(frozen=True, slots=True)
class Example:
    """One text and what is known of it.

    `intensity` in [0, 1] is the distance of its rating from the scale's middle. `sided`: the set has no
    neutral class, so a text that is neither is merely absent.
    """

    corpus: str
    text: str
    language: str
    fold: Fold
    sentiment: int | None = None
    intensity: float | None = None
    topic: str | None = None
    sided: bool = False


@dataclass(frozen=True, slots=True)
class Corpus:
    """A set on disk: what the model card says of it, and how it is read."""

    name: str
    path: str  # below the data folder; a pattern of one file
    licence: str
    read: Callable[[Path], Iterator[Example]]

    def find(self, data: Path) -> Path | None:
        """Its file in a data folder, if it is there."""
        return next(iter(sorted(data.glob(self.path))), None)


def fold_of(text: str) -> Fold:
    """A fifth for the test, a twenty-fifth for choices, the rest for training."""
    digest = hashlib.sha256(text.strip().lower().encode("utf-8", "replace")).digest()
    place = int.from_bytes(digest[:4], "big") % 100
    return "test" if place < TEST_PERCENT else "dev" if place < TEST_PERCENT + DEV_PERCENT else "train"


def from_stars(corpus: str, text: str, stars: float, topic: str | None = None) -> Example:
    """1 and 2 stars are negative, 3 neutral, 4 and 5 positive; intensity is |stars - 3| / 2."""
    sentiment = NEGATIVE if stars < 3 else POSITIVE if stars > 3 else NEUTRAL
    return Example(corpus, text, "en", fold_of(text), sentiment, abs(stars - 3) / 2, topic)


def written_reviews() -> Iterator[Example]:
    """Those of `data/reviews.tsv`, written for this project: what the sets lack in domains and in tone."""
    sides = {"negative": NEGATIVE, "neutral": NEUTRAL, "positive": POSITIVE}
    for line in _WRITTEN.read_text(encoding="utf-8").splitlines():
        language, _, label, text = line.split("\t")
        intensity = 0.0 if label == "neutral" else None
        yield Example(f"written_{language}", text, language, fold_of(text), sides[label], intensity)


def read_clothing(path: Path) -> Iterator[Example]:
    """The women's clothing reviews, from the zip as published: each review, and each title alone."""
    for row in _zipped_rows(path):
        text, title, stars = row["Review Text"].strip(), row["Title"].strip(), float(row["Rating"])
        if not text:
            continue
        review = from_stars("clothing", text, stars, row["Department Name"] or None)
        yield review
        if title:
            yield replace(review, corpus="clothing_titles", text=title, topic=None)


def read_instruments(path: Path) -> Iterator[Example]:
    """Amazon reviews of musical instruments (2014), and their summaries."""
    for row in _zipped_rows(path):
        stars = float(row["overall"])
        yield from _review("instruments", row["reviewText"] or "", row["summary"] or "", stars)


def read_amazon(path: Path) -> Iterator[Example]:
    """Reviews of one Amazon category (2018), and their summaries."""
    name = "_".join(path.parent.name.split("_")[1:3])
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            stars = float(row["overall"])
            yield from _review(name, str(row.get("reviewText") or ""), str(row.get("summary") or ""), stars)


def _review(corpus: str, text: str, summary: str, stars: float) -> Iterator[Example]:
    if text.strip():
        yield from_stars(corpus, text.strip(), stars)
    if summary.strip() and not _STARS_TITLE.fullmatch(summary.strip()):
        yield from_stars("amazon_summaries", summary.strip(), stars)


def _zipped_rows(path: Path) -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".csv"))
        with archive.open(name) as raw:
            yield from csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8-sig"))


def read_sst(path: Path) -> Iterator[Example]:
    """SST-5 sentences with the folds as published; without the neutral ones they are SST-2."""
    fold: Fold = "train" if "train" in path.name else "dev" if "dev" in path.name else "test"
    for label, text in _labelled_lines(path):
        yield replace(from_stars("sst", undo_treebank(text), int(label) + 1), fold=fold)


def read_customer_reviews(path: Path) -> Iterator[Example]:
    """CR: sentences on electronics, negative or positive."""
    yield from _sided_sentences("cr", path)


def read_movie_reviews(path: Path) -> Iterator[Example]:
    """MR, only to be judged on: it holds the sentences of SST, whose test it would give away."""
    for example in _sided_sentences("mr", path):
        yield replace(example, fold="test")


def _sided_sentences(corpus: str, path: Path) -> Iterator[Example]:
    for label, text in _labelled_lines(path):
        if label in "01":
            text = undo_treebank(text)
            sentiment = POSITIVE if label == "1" else NEGATIVE
            yield Example(corpus, text, "en", fold_of(text), sentiment, sided=True)


def _labelled_lines(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="latin-1").splitlines():
        label, _, text = line.partition(" ")
        yield label, text


def read_airline(path: Path) -> Iterator[Example]:
    """Tweets to airlines in three classes, without the handles."""
    labels = {"negative": NEGATIVE, "neutral": NEUTRAL, "positive": POSITIVE}
    with path.open(encoding="utf-8", errors="replace", newline="") as rows:
        for row in csv.DictReader(rows):
            text = " ".join(word for word in row["text"].split() if not word.startswith("@"))
            if text and row["airline_sentiment"] in labels:
                yield Example("airline", text, "en", fold_of(text), labels[row["airline_sentiment"]])


def read_shopping(path: Path) -> Iterator[Example]:
    """Chinese reviews of online shops in nine categories, negative or positive."""
    for row in _zipped_rows(path):
        yield from _chinese("zh_shopping", row["review"] or "", row["label"], row["cat"])


def read_waimai(path: Path) -> Iterator[Example]:
    """Chinese reviews of delivered meals, negative or positive."""
    with path.open(encoding="utf-8-sig", newline="") as rows:
        for row in csv.DictReader(rows):
            yield from _chinese("zh_waimai", row["review"], row["label"], "外卖")


def _chinese(corpus: str, text: str, label: str, topic: str) -> Iterator[Example]:
    text = text.strip()
    if text:
        sentiment = POSITIVE if label == "1" else NEGATIVE
        yield Example(corpus, text, "zh", fold_of(text), sentiment, topic=topic, sided=True)


def read_plots(path: Path) -> Iterator[Example]:
    """Sentences of the plots of Chinese film pages: they tell and do not judge."""
    with path.open(encoding="utf-8-sig", newline="") as rows:
        for row in csv.reader(rows):
            for sentence in re.findall(r"[^。！？]{12,80}[。！？]", row[1] if len(row) > 1 else ""):
                yield _plain("zh_plots", sentence, "zh")


def read_objective(path: Path) -> Iterator[Example]:
    """The objective half of Subj: sentences of film plots. The other half quotes reviews that are in MR."""
    for label, text in _labelled_lines(path):
        if label == "1":
            yield _plain("subj_plots", undo_treebank(text), "en")


def read_questions(path: Path) -> Iterator[Example]:
    """TREC: questions of fact."""
    for _, text in _labelled_lines(path):
        yield _plain("trec", undo_treebank(text), "en")


def read_clinc(path: Path) -> Iterator[Example]:
    """CLINC150: what people ask an assistant; folds as published."""
    parts: dict[str, list[list[str]]] = json.loads(path.read_text(encoding="utf-8"))
    for part, rows in parts.items():
        fold: Fold = "train" if "train" in part else "dev" if "val" in part else "test"
        for text, intent in rows:
            yield Example("clinc150", text, "en", fold, NEUTRAL, 0.0, intent)


def read_banking(path: Path) -> Iterator[Example]:
    """BANKING77: what customers ask a bank; whether they are upset is not known. Folds as published."""
    fold: Fold = "train" if "train" in path.name else "test"
    with path.open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            yield Example("banking77", row["text"].strip(), "en", fold, topic=row["category"])


def _plain(corpus: str, text: str, language: str) -> Example:
    return Example(corpus, text, language, fold_of(text), NEUTRAL, 0.0)


def undo_treebank(text: str) -> str:
    """Joins what a treebank tokenizer split, so that the words look as people write them."""
    for split, joined in ((" n't", "n't"), (" '", "'"), (" ,", ","), (" .", "."), (" !", "!"), (" ?", "?")):
        text = text.replace(split, joined)
    return text.replace("-lrb- ", "(").replace(" -rrb-", ")").strip()


_RESEARCH: Final = "research release, no explicit licence"
_UNKNOWN: Final = "unknown"
CORPORA: Final = (
    Corpus("womens_clothing_reviews", "womens_clothing_reviews/*.zip", "CC0", read_clothing),
    Corpus("clinc150", "clinc150/data_full.json", "CC BY 3.0", read_clinc),
    Corpus("banking77", "banking77/train.csv", "CC BY 4.0", read_banking),
    Corpus("banking77", "banking77/test.csv", "CC BY 4.0", read_banking),
    Corpus("sst", f"{_SENTENCES}/stsa.fine.train", _RESEARCH, read_sst),
    Corpus("sst", f"{_SENTENCES}/stsa.fine.dev", _RESEARCH, read_sst),
    Corpus("sst", f"{_SENTENCES}/stsa.fine.test", _RESEARCH, read_sst),
    Corpus("cr", f"{_SENTENCES}/custrev.all", _RESEARCH, read_customer_reviews),
    Corpus("mr", f"{_SENTENCES}/rt-polarity.all", _RESEARCH, read_movie_reviews),
    Corpus("subj", f"{_SENTENCES}/subj.all", _RESEARCH, read_objective),
    Corpus("trec", f"{_SENTENCES}/TREC.train.all", _RESEARCH, read_questions),
    Corpus("twitter_airline_2015", "twitter_airline_2015/Tweets.csv", "CC BY-NC-SA 4.0", read_airline),
    Corpus(
        "amazon_musical_instruments_2014", "amazon_musical_instruments*/*.zip", _RESEARCH, read_instruments
    ),
    Corpus("amazon_all_beauty_2018", "amazon_all_beauty*/*.json.gz", _RESEARCH, read_amazon),
    Corpus("amazon_gift_cards_2018", "amazon_gift_cards*/Gift*.json.gz", _RESEARCH, read_amazon),
    Corpus("zh_online_shopping_10_cats", "zh_online_shopping*/*.zip", _UNKNOWN, read_shopping),
    Corpus("zh_waimai_10k", "zh_waimai*/*.csv", _UNKNOWN, read_waimai),
    Corpus("zh_douban_top250", "zh_douban_top250/films.csv", _UNKNOWN, read_plots),
)


def read_corpora(data: Path) -> tuple[list[Example], list[Corpus]]:
    """Every distinct text of every set that is in the folder, beside the written ones; and these sets."""
    present = [(corpus, path) for corpus in CORPORA if (path := corpus.find(data)) is not None]
    examples = {(example.corpus, example.text): example for example in written_reviews()}
    for corpus, path in present:
        for example in corpus.read(path):
            examples.setdefault((example.corpus, example.text), example)
    return without_leaks(list(examples.values())), [corpus for corpus, _ in present]


def without_leaks(examples: list[Example]) -> list[Example]:
    """Drops the texts of MR that SST has for training: the rest of MR can be judged on."""
    taught = {_letters(e.text) for e in examples if e.corpus == "sst" and e.fold != "test"}
    return [e for e in examples if e.corpus != "mr" or _letters(e.text) not in taught]


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
