"""Chinese by way of English: word-by-word glosses, and the first vectors of Chinese characters.

`data/glossary.tsv` is this project's own list of words that feedback is made of. `data/characters.tsv` has
the characters of GB 2312 and further frequent ones with the first senses that the Unicode Han database
(Unihan, kDefinition; Unicode licence) gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from models.training.network import Base
from models.training.tasks import Floats
from models.training.vocabulary import extend_vocabulary, shrink_vocabulary

_DATA = Path(__file__).parent / "data"
_IDEOGRAPH = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
GLOSSED_CHARACTERS = 94  # of a longer text the first and the last half


@lru_cache(maxsize=1)
def words() -> dict[str, str]:
    """Chinese words and their English."""
    return _read("glossary.tsv")


@lru_cache(maxsize=1)
def characters() -> dict[str, str]:
    """Characters and their senses, separated by semicolons; some have none."""
    return _read("characters.tsv")


def _read(name: str) -> dict[str, str]:
    lines = (_DATA / name).read_text(encoding="utf-8").splitlines()
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def gloss(text: str) -> str:
    """English for a Chinese text, word by word: the longest known words, else characters' first senses."""
    if len(text) > GLOSSED_CHARACTERS:
        half = GLOSSED_CHARACTERS // 2
        text = f"{text[:half]} {text[-half:]}"
    return " ".join(" ".join(_pieces(text, words(), characters())).split())


def _pieces(text: str, known: Mapping[str, str], senses: Mapping[str, str]) -> list[str]:
    longest = max(map(len, known))
    pieces, i = [], 0
    while i < len(text):
        length = next((n for n in range(min(longest, len(text) - i), 0, -1) if text[i : i + n] in known), 1)
        word = text[i : i + length]
        if word in known:
            pieces.append(f" {known[word]} ")
        elif word in senses:
            pieces.append(f" {senses[word].split(';')[0]} ")
        else:
            pieces.append(word)
        i += length
    return ["".join(pieces)]


def teach_characters(base: Base, seed: int) -> None:
    """Gives an English encoder the characters' rows, in place; rows it has for ideographs are replaced.

    A row starts as the mean of the encoder's own rows for the gloss, at the length usual for its rows.
    """
    vocabulary = Tokenizer.from_str(base.tokenizer_json).get_vocab()
    shrink_vocabulary(base, {word for word in vocabulary if not _IDEOGRAPH.search(word)})
    table = base.encoder.get_input_embeddings().weight.detach().numpy()
    tokenizer = Tokenizer.from_str(base.tokenizer_json)
    extend_vocabulary(base, first_rows(table, tokenizer, seed))


def first_rows(table: Floats, tokenizer: Tokenizer, seed: int) -> dict[str, Floats]:
    """Each character's first row, shape (hidden,)."""
    random = np.random.default_rng(seed)
    length = float(np.median(np.linalg.norm(table, axis=1)))
    centre = table.mean(axis=0)
    rows = {}
    for character, senses in characters().items():
        english = words().get(character) or senses.replace(";", ",")
        pieces = tokenizer.encode(english, add_special_tokens=False)
        ids = [i for i, piece in zip(pieces.ids, pieces.tokens, strict=True) if piece.isalpha()]
        row = table[ids].mean(axis=0) if ids else centre
        row = row + random.normal(0, 0.1 * length / np.sqrt(len(row)), len(row))
        rows[character] = (row * (length / np.linalg.norm(row))).astype(np.float32)
    return rows
