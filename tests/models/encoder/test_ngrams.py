"""N-gram ids: the same in training and serving, of ideographs only, bounded for any text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoder.ngrams import MAX_UNITS, describe_ngrams, ngram_ids, read_buckets

BUCKETS = 1 << 19
IDS_OF_GOOD_QUALITY = [90268, 120263, 159128, 194844, 205341, 225139, 246273, 364255, 400561]


@given(st.text(max_size=300))
def test_any_text_gives_distinct_ascending_buckets(text: str) -> None:
    ids = ngram_ids(text, BUCKETS)
    assert ids.dtype == np.int64
    assert np.all(np.diff(ids) > 0)
    assert not len(ids) or (ids[0] >= 0 and ids[-1] < BUCKETS)


@given(st.text(alphabet=st.characters(max_codepoint=0x2DFF), max_size=100))
def test_a_text_without_ideographs_has_none(text: str) -> None:
    assert len(ngram_ids(text, BUCKETS)) == 0


@given(st.text(alphabet="好吃不太差ok 12!", max_size=40))
def test_case_and_width_change_nothing(text: str) -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    assert ngram_ids(text.upper(), BUCKETS).tolist() == ngram_ids(wide, BUCKETS).tolist()


def test_the_ids_are_those_the_shipped_table_was_fitted_on() -> None:
    assert ngram_ids("质量很好", 1 << 19).tolist() == IDS_OF_GOOD_QUALITY


def test_up_to_three_units_make_an_ngram_and_at_least_one_is_an_ideograph() -> None:
    # 好, ok好, 好!, ok好!, !好 is absent
    assert len(ngram_ids("ok好!", BUCKETS)) == 4
    assert set(ngram_ids("好", BUCKETS)) < set(ngram_ids("ok好!", BUCKETS))


def test_a_long_text_counts_with_its_ends() -> None:
    middle = ngram_ids("好" * MAX_UNITS + "差" * 10 + "好" * MAX_UNITS, BUCKETS)
    assert middle.tolist() == ngram_ids("好" * MAX_UNITS, BUCKETS).tolist()


def test_the_description_of_other_ngrams_is_refused() -> None:
    assert read_buckets(describe_ngrams(1 << 12)) == 1 << 12
    for wrong in ({"max_n": 4}, {"buckets": 1000}, {"buckets": "4096"}, {"algorithm": "other"}):
        with pytest.raises(ValueError, match="expected n-grams"):
            read_buckets({**describe_ngrams(1 << 12), **wrong})
