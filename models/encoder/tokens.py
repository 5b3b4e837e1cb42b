"""Texts to token ids, in bulk, with long texts cut at a fixed place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tokenizers import Tokenizer

#: Longer texts lose their middle before tokenization, so that a megabyte costs no more than a page.
#: WordPiece reads at most 100 characters as one word, so 127 tokens never reach past this.
MAX_CHARACTERS: Final = 40_000


class TextTokenizer:
    """`tokenizers` with head-and-tail cutting.

    A text of more than `max_length` tokens keeps its first and its last half: what was bought stands at
    the beginning of a review, the verdict often at the end.
    """

    def __init__(self, tokenizer_json: str, max_length: int) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._max_length = max_length
        self._unknown = self._tokenizer.token_to_id("[UNK]")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with [CLS] and [SEP], at most `max_length` each."""
        encodings = self._tokenizer.encode_batch_fast([cut_characters(text) for text in texts])
        return [cut_tokens(encoding.ids, self._max_length) for encoding in encodings]

    def unknown_share(self, ids: Sequence[int]) -> float:
        """The share of [UNK] among the tokens between [CLS] and [SEP], in [0, 1]; 1 when there are none."""
        body = len(ids) - 2
        return 1.0 if body < 1 else ids.count(self._unknown) / body


def cut_characters(text: str) -> str:
    """The text, or its first and last `MAX_CHARACTERS` / 2 characters with a blank between them."""
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]} {text[-half:]}"


def cut_tokens(ids: list[int], max_length: int) -> list[int]:
    """The ids, or the first and last half of them, [CLS] and [SEP] included."""
    if len(ids) <= max_length:
        return ids
    tail = max_length // 2
    return ids[: max_length - tail] + ids[-tail:]
