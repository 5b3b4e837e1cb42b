"""Long texts are cut where the documentation says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoder.artefact import DEFAULT_MODEL_PATH, load_artefact
from models.encoder.tokens import MAX_CHARACTERS, TextTokenizer, cut_characters, cut_tokens


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    artefact = load_artefact(DEFAULT_MODEL_PATH)
    return TextTokenizer(artefact.tokenizer, artefact.max_length)


@given(st.lists(st.integers(), max_size=600), st.integers(2, 300))
def test_a_cut_keeps_the_head_and_the_tail(ids: list[int], most: int) -> None:
    kept = cut_tokens(ids, most)
    assert len(kept) == min(len(ids), most)
    head = most - most // 2
    assert kept[:head] == ids[:head]
    assert kept[head:] == (ids[-(most // 2) :] if len(ids) > most else ids[head:])


@given(st.text(max_size=200))
def test_a_short_text_is_not_cut(text: str) -> None:
    assert cut_characters(text) == text


def test_the_beginning_and_the_end_of_a_long_review_are_read(tokenizer: TextTokenizer) -> None:
    long = "zipper " + "and so on " * 500 + "refund"
    [ids] = tokenizer.encode([long])
    zipper, refund = (tokens[1:-1] for tokens in tokenizer.encode(["zipper", "refund"]))
    assert len(ids) == 256
    assert ids[1 : 1 + len(zipper)] == zipper
    assert ids[-1 - len(refund) : -1] == refund


def test_a_megabyte_of_one_letter_is_one_unknown_word(tokenizer: TextTokenizer) -> None:
    [ids] = tokenizer.encode(["a" * 1_000_000])
    assert len(cut_characters("a" * 1_000_000)) == MAX_CHARACTERS + 1
    assert tokenizer.unknown_share("a" * 1_000_000, ids) == 1.0


def test_ids_do_not_depend_on_the_texts_beside(tokenizer: TextTokenizer) -> None:
    texts = ["short", "a much longer text than the others, " * 30, "", "emoji 😀 and 中文"]
    assert tokenizer.encode(texts) == [tokenizer.encode([text])[0] for text in texts]


def test_words_without_tokens_count_as_unknown(tokenizer: TextTokenizer) -> None:
    assert _unknown_shares(tokenizer, "great dress", "great ሰላም", "😀😀", "") == [0.0, 0.5, 1.0, 1.0]


def test_an_emoji_is_no_unknown_word(tokenizer: TextTokenizer) -> None:
    assert _unknown_shares(tokenizer, "Terrible 😡", "差 😡😡 👍🏽", "great ሰላም 😀", "😀 ሰላም") == [
        0.0,
        0.0,
        0.5,
        1.0,
    ]


def test_only_the_signs_of_the_ends_that_are_read_are_left_out(tokenizer: TextTokenizer) -> None:
    assert _unknown_shares(tokenizer, "ሰላም " * 200 + "😀 " * 400 + "good " * 64) == [127 / 191]


def _unknown_shares(tokenizer: TextTokenizer, *texts: str) -> list[float]:
    return [tokenizer.unknown_share(t, ids) for t, ids in zip(texts, tokenizer.encode(texts), strict=True)]
