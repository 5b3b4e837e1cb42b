"""Texts to what the graph reads: token ids in bulk, long texts cut at a fixed place, n-grams where wanted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, TypeVar

import numpy as np
from tokenizers import Tokenizer

from models.encoder.artefact import Artefact
from models.encoder.ngrams import Ids, ngram_ids, read_buckets
from models.errors import DeploymentError

#: Longer texts lose their middle before tokenization, so that a megabyte costs no more than a page.
#: WordPiece reads at most 100 characters as one word, so 127 tokens never reach past this.
MAX_CHARACTERS: Final = 40_000
_WORDS_CHARACTERS: Final = 2_000  # of a text, that `pieces_of_words` looks at
_WORD: Final = re.compile(r"[^\W\d_]+")
_NO_NGRAMS: Final = np.empty(0, np.int64)

Token = TypeVar("Token")


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """What the graph reads of one text."""

    ids: list[int]  # [CLS] and [SEP] included, at most max_length
    ngrams: Ids  # (ngrams,), empty when the graph does not read them
    cut: bool  # the text lost its middle


class TextTokenizer:
    """`tokenizers` with head-and-tail cutting.

    A text of more than `max_length` tokens keeps its first and its last half: what was bought stands at
    the beginning of a review, the verdict often at the end.
    """

    def __init__(self, tokenizer_json: str, max_length: int) -> None:
        """Raises DeploymentError when the JSON is not a tokenizer's."""
        try:
            self._tokenizer = Tokenizer.from_str(tokenizer_json)
            unknown = json.loads(tokenizer_json)["model"].get("unk_token")
        except Exception as error:  # the package raises Exception itself
            raise DeploymentError(
                f"tokenizer.json is not a tokenizer: {error}; export the artefact again"
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._max_length = max_length
        self._unknown = -1 if unknown is None else self._tokenizer.token_to_id(unknown)
        self._added = self._tokenizer.num_special_tokens_to_add(False)

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows, added ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with [CLS] and [SEP], at most `max_length` each."""
        return [ids for ids, _ in self.encode_marked(texts)]

    def encode_marked(self, texts: Sequence[str]) -> list[tuple[list[int], bool]]:
        """As `encode`, and whether the text was cut."""
        encodings = self._tokenizer.encode_batch_fast([cut_characters(text) for text in texts])
        return [
            (cut_tokens(ids, self._max_length), len(ids) > self._max_length or len(text) > MAX_CHARACTERS)
            for text, ids in zip(texts, (encoding.ids for encoding in encodings), strict=True)
        ]

    def unknown_share(self, text: str, ids: Sequence[int]) -> float:
        """The share of [UNK] among the tokens of `text`, in [0, 1]; `ids` are what `encode` made of it.

        An emoji or another sign it does not know is no word and counts neither way; 1 when nothing counts.
        """
        body, unknown = len(ids) - self._added, ids.count(self._unknown)
        signs = self._unknown_signs(text) if unknown else 0  # few texts have an [UNK] to look at
        return (unknown - signs) / (body - signs) if body > signs else 1.0

    def _unknown_signs(self, text: str) -> int:
        """How many of the [UNK] that `encode` keeps of a text have no letter and no ideograph."""
        text = cut_characters(text)
        encoding = self._tokenizer.encode(text)
        kept = cut_tokens(list(zip(encoding.ids, encoding.offsets, strict=True)), self._max_length)
        unknown = (text[start:end] for token, (start, end) in kept if token == self._unknown)
        return sum(not any(map(str.isalpha, word)) for word in unknown)

    def pieces_of_words(self, text: str) -> tuple[int, int]:
        """Into how many tokens its words fall, and how many words; 1.3 each in a language it knows."""
        words = _WORD.findall(text[:_WORDS_CHARACTERS])
        return len(self._tokenizer.encode(" ".join(words), add_special_tokens=False).ids), len(words)


class TextEncoder:
    """Makes an artefact's inputs: the one place where its tokenizer and n-grams meet."""

    def __init__(self, artefact: Artefact) -> None:
        """Raises DeploymentError when the tokenizer is not the model's."""
        self.tokenizer = TextTokenizer(artefact.tokenizer, artefact.max_length)
        self._buckets = _buckets(artefact)
        expected = artefact.contract.vocabulary
        if expected is not None and self.tokenizer.vocabulary != expected:
            raise DeploymentError(
                f"{artefact.path}: the model was made with a tokenizer of {expected:,} tokens, "
                f"but tokenizer.json has {self.tokenizer.vocabulary:,}; give the model its own tokenizer"
            )

    def encode(self, texts: Sequence[str]) -> list[EncoderInput]:
        """One input a text, in order; it does not depend on the texts beside."""
        marked = self.tokenizer.encode_marked(texts)
        return [EncoderInput(i, self._ngrams(t), cut) for t, (i, cut) in zip(texts, marked, strict=True)]

    def _ngrams(self, text: str) -> Ids:
        return ngram_ids(cut_characters(text), self._buckets) if self._buckets else _NO_NGRAMS


def _buckets(artefact: Artefact) -> int:
    """How many n-gram buckets the graph has; 0 when it does not read n-grams."""
    spec = artefact.contract.ngrams
    try:
        return 0 if spec is None else read_buckets(asdict(spec))
    except ValueError as error:
        raise DeploymentError(f"{artefact.path}: {error}; export the artefact again") from None


def cut_characters(text: str) -> str:
    """The text, or its first and last `MAX_CHARACTERS` / 2 characters with a blank between them."""
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]} {text[-half:]}"


def cut_tokens(ids: list[Token], max_length: int) -> list[Token]:
    """The ids, or the first and last half of them, [CLS] and [SEP] included."""
    if len(ids) <= max_length:
        return ids
    tail = max_length // 2
    return ids[: max_length - tail] + ids[-tail:]
