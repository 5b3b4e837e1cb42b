"""Text is cleaned without loss, redacted without over-eating, and hashed the same everywhere."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.text import WORD_BUCKETS, clean_and_redact, clean_text, pseudonym, redact, text_hash, word_ids

PIECES = ["<", ">", "&", "amp;", "lt;", "gt;", "b", "p", "script", "</", "<!--", "-->", "=", "#60;", "é", "x"]
markup = st.lists(st.sampled_from([*PIECES, " "])).map("".join)
any_text = st.text(st.characters()) | st.text() | markup


@given(any_text, st.integers(1, 60))
@example("<br x<y z>", 8)
@example("&amp;amp;amp;lt;b>", 60)
@example("<scr<b>ipt>alert(1)</script>", 60)
def test_cleaning_twice_changes_nothing(raw: str, max_chars: int) -> None:
    once = clean_text(raw, max_chars)
    assert once is None or clean_text(once, max_chars) == once


@given(any_text, st.integers(1, 60))
def test_cleaned_text_is_short_normal_encodable_and_trimmed(raw: str, max_chars: int) -> None:
    for text in (clean_text(raw, max_chars), clean_and_redact(raw, max_chars)):
        if text is None:
            continue
        assert 0 < len(text) <= max_chars
        assert unicodedata.is_normalized("NFC", text)
        assert text == " ".join(text.split())
        assert "\x00" not in text
        text.encode("utf-8")


@pytest.mark.parametrize(
    "kept",
    [
        "I <3 this",
        "a < b",
        "x<b and b>y",
        "size < 5 > 3",
        "'; DROP TABLE users; --",
        "שלום עולם, זה מצוין",
        "هذا رائع‌جدا",
        "family 👨‍👩‍👧 👍🏽",
        "AT&T",
        "?a=1&copy=2",
    ],
)
def test_what_people_write_stays_as_it_is(kept: str) -> None:
    assert clean_text(kept) == unicodedata.normalize("NFC", kept)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("<p>one</p><p>two</p>", "one two"),
        ("un<b>believ</b>able", "unbelievable"),
        ("AT&amp;T &#34;ok&#34; &lt;br /&gt; next", 'AT&T "ok" next'),
        ("<script>alert('x')</script>fine", "fine"),
        ("a <!-- hidden --> b", "a b"),
        ('<a href="http://x.example">link</a>', "link"),
        ("<img src=x onerror=alert(1)>", None),
        ("e\u0301", "é"),
        ("\ud83d alone", "\ufffd alone"),
        ("a\x00\x07b \t\r\n c\u00a0d", "ab c d"),
        ("\u202egnp.exe", "gnp.exe"),
        ("", None),
        (" \u200b\ufeff ", None),
    ],
)
def test_markup_and_control_characters_go(raw: str, cleaned: str | None) -> None:
    assert clean_text(raw) == cleaned


def test_a_hostile_text_is_cleaned_in_linear_time() -> None:
    for wide in ("<a" + " " * 30_000 + "<>", "<p" + "\t" * 30_000 + "x<>"):
        clean_text(wide)
    for piece in ("<script", "<b ", "&amp;", "&#38;#38;", "a@", "1 ", "<!--", "+1 ", "call "):
        cleaned = clean_text(piece * 1_000_000)
        assert cleaned is None or len(redact(cleaned)) > 0
        redact(piece * 20_000)


def test_a_length_cap_below_one_is_refused() -> None:
    for clean in (clean_text, clean_and_redact):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            clean("x", 0)


@pytest.mark.parametrize("max_chars", [1, 2, 3, 4, 11, 4000])
def test_a_long_text_keeps_its_first_and_its_last_half(max_chars: int) -> None:
    raw = "a" * max_chars + "b" + "c" * max_chars
    tail = (max_chars - 1) // 2
    assert clean_text(raw, max_chars) == ("a" * max(1, max_chars - 1 - tail) + " " + "c" * tail).rstrip()


@pytest.mark.parametrize("filler", [2_000, 40_000, 300_000])
def test_the_end_of_a_text_of_any_length_stays(filler: int) -> None:
    cleaned = clean_text("The coat came. " + "so it went on " * filler + "It broke at once.")
    assert cleaned is not None
    assert len(cleaned) <= 4000
    assert cleaned.startswith("The coat came. so it went on")
    assert cleaned.endswith("so it went on It broke at once.")


ADDRESSES = ("jo.the.reviewer@shop.example.com", "+44 20 7946 0958", "4111 1111 1111 1111")
MARKS_AND_FILLER = set("x [email] [phone] [card]")


@given(st.sampled_from(ADDRESSES), st.integers(0, 40), st.integers(0, 40), st.integers(20, 60))
def test_no_cut_leaves_half_an_address(address: str, before: int, after: int, max_chars: int) -> None:
    cleaned = clean_and_redact(f"{'x ' * before}{address}{' x' * after}", max_chars)
    assert cleaned is not None
    assert set(cleaned) <= MARKS_AND_FILLER


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_text_that_is_too_long_to_be_read_whole_leaves_no_half_either(address: str) -> None:
    for within in range(len(address) + 1):  # of 16,000 characters of markup nothing stays but what ends them
        markup = ("<b>" * 6_000)[within - 16_000 :] + address + " x" * 10_000
        assert set(clean_and_redact(markup) or "") <= MARKS_AND_FILLER | set("<b>")
        markup = "x " * 10_000 + address + ("<b>" * 6_000)[: 16_000 - within]
        assert set(clean_and_redact(markup) or "") <= MARKS_AND_FILLER | set("<b>")


@pytest.mark.parametrize(
    ("raw", "redacted"),
    [
        ("mail john.doe+x@mail.example.co.uk now", "mail [email] now"),
        ("müller@bücher.example", "[email]"),
        ("写信给abc@example.com吧", "写信给[email]吧"),
        ("call +44 20 7946 0958.", "call [phone]."),
        ("(555) 123-4567 or 1-800-555-1234", "[phone] or [phone]"),
        ("555.123.4567 and 123-456-7890", "[phone] and [phone]"),
        ("my number 212 555 0187", "my number [phone]"),
        ("call me at 555-1234", "call me at [phone]"),
        ("tel: 5551234567", "tel: [phone]"),
        ("手机13800138000谢谢", "手机[phone]谢谢"),
        ("020 7946 0958 / 06 12 34 56 78", "[phone] / [phone]"),
        ("card 4111 1111 1111 1111 123", "card [card] 123"),
        ("4111-1111-1111-1111, 378282246310005", "[card], [card]"),
    ],
)
def test_personal_numbers_and_addresses_are_redacted(raw: str, redacted: str) -> None:
    assert redact(raw) == redacted


@pytest.mark.parametrize(
    "kept",
    [
        "B0002E1G5C 1384719342 6305837325",
        "order 113-1234567-1234567",
        "2014-07-22 10:15:30, 05-06-2014 12:30",
        "$1,234,567.00 or 1.234.567,00 EUR",
        "size 10x12x14, 36-24-36, 1080p 3840x2160, 12 x 14 x 16",
        "ISBN 9780375869026",
        "4111 1111 1111 1112",
        "0.123456789 of 12345678",
        "1999 2000 2001 2002",
        "call 911, call of duty 2003",
        "unix 1393545600 and 1393545600123",
        "192.168.100.200",
        "part 099-0818-300, part 073-3150-406",
        "price @ 5 dollars, me@home",
    ],
)
def test_sizes_prices_dates_and_asins_are_not_redacted(kept: str) -> None:
    assert redact(kept) == kept


@given(st.from_regex(r"[a-z]{1,10}(\.[a-z]{1,5})?@[a-z]{2,10}\.(com|org|de)", fullmatch=True), st.text())
def test_no_address_survives_whatever_stands_around_it(address: str, around: str) -> None:
    assert address not in redact(f"{around} {address} {around}")


@given(st.text())
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


def test_text_hash_folds_case_and_white_space_and_fits_64_signed_bits() -> None:
    assert text_hash("Great  Strings") == text_hash("great strings") != text_hash("great string")
    expected = hashlib.blake2b(b"great strings", digest_size=8).digest()
    assert text_hash("great strings") == int.from_bytes(expected, "big", signed=True)


@given(st.text())
def test_word_ids_are_uint16_below_the_bucket_count(text: str) -> None:
    ids = word_ids(text)
    assert (ids.dtype, ids.ndim) == (np.dtype(np.uint16), 1)
    assert not len(ids) or int(ids.max()) < WORD_BUCKETS


def test_word_ids_keep_order_and_repeats_and_drop_stop_words_and_numbers() -> None:
    one, other = word_ids("guitar")[0], word_ids("zipper")[0]
    assert one != other
    assert word_ids("The guitar and the 2014 Zipper, guitars!").tolist() == [one, other, one]


def test_accented_words_stay_whole() -> None:
    assert len(word_ids("café naïve")) == 2
    assert word_ids("Café").tolist() == word_ids("café").tolist()


def test_chinese_runs_become_pairs_of_characters() -> None:
    assert word_ids("我喜欢你").tolist() == [*word_ids("我喜"), *word_ids("喜欢"), *word_ids("欢你")]
    assert len(word_ids("好 guitar")) == 2


def test_word_ids_are_the_same_in_another_process() -> None:
    text = "Broken zipper, café, 我喜欢"
    code = f"from models.text import word_ids; print(word_ids({text!r}).tolist())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(word_ids(text).tolist())


def test_a_pseudonym_is_the_hmac_of_the_id_under_the_key() -> None:
    assert pseudonym("u1", b"k") == hmac.new(b"k", b"u1", hashlib.sha256).hexdigest()
    assert pseudonym("u1", b"k") != pseudonym("u1", b"other")
