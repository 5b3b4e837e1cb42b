"""Cleaning, redaction and hashing of what people write; pure and stable across processes."""

from __future__ import annotations

import hashlib
import hmac
import html
import re
import unicodedata
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Number of buckets of `word_ids`; the item index stores one vector of this width an item.
WORD_BUCKETS: Final = 4096

_MAX_ROUNDS: Final = 6  # of unescaping: "&amp;amp;lt;" takes three
_MOST_READ: Final = 32_000  # characters of one text, or eight times what is kept of it
_LONGEST_REDACTED: Final = 700  # characters of one piece of personal data; an e-mail address has most
_WORD_CACHE_SIZE: Final = 200_000

_SURROGATE = re.compile("[\ud800-\udfff]")
# C0 and C1 without white space, zero-width space, bidi overrides, word joiner, BOM, noncharacters.
# Joiners (U+200C, U+200D) stay: Persian and emoji need them; so do the plain LRM and RLM marks.
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufffe\uffff]"
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_HIDDEN_OPENING = re.compile(r"<(script|style)\b[^<>]*>|<!--", re.IGNORECASE)

_BLOCK_TAGS = (
    "address|article|aside|blockquote|body|br|center|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|"
    "h[1-6]|head|header|hr|html|img|li|main|nav|ol|option|p|pre|section|table|tbody|td|tfoot|th|thead|title|tr|ul"
)
_INLINE_TAGS = (
    "abbr|acronym|audio|bdi|bdo|big|button|canvas|cite|code|del|dfn|em|embed|font|iframe|input|ins|kbd|label|link|"
    "mark|meta|noscript|object|param|picture|ruby|samp|script|select|small|source|span|strike|strong|style|sub|sup|"
    "svg|textarea|time|tt|var|video|wbr"
)
# Only HTML's own names count, and one-letter names only bare or with attributes that have a value,
# so that "<3", "a < b" and "x<b and b>y" stay.
_BLOCK_TAG = re.compile(rf"</?(?!p\s+[^<>=]*>)(?:{_BLOCK_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_INLINE_TAG = re.compile(
    rf"</?(?:(?:{_INLINE_TAGS})(?:\s[^<>]*)?|[abiqsu](?:\s+[^<>=]+=[^<>]*)?\s*)/?>", re.IGNORECASE
)

_EMAIL = re.compile(
    r"[A-Za-z0-9._%+\-\u00a1-\u1fff]{1,64}@[A-Za-z0-9\u00a1-\u1fff-]{1,63}"
    r"(?:\.[A-Za-z0-9\u00a1-\u1fff-]{1,63}){0,8}\.[A-Za-z\u00a1-\u1fff]{2,24}"
)
_DASH = "\\-\u2010-\u2015\u2212"
# Nothing below needs a look unless seven digits stand close together.
_MANY_DIGITS = re.compile(rf"\d(?:[\s()./{_DASH}]{{0,3}}\d){{6}}")
_CARD_RUN = re.compile(rf"(?<![A-Za-z0-9_.])\d+(?:[ {_DASH}]\d+)*(?![A-Za-z0-9_])")
_DATE_START = re.compile(rf"\d{{1,2}}[./ {_DASH}]\d{{1,2}}[./ {_DASH}](?:19|20)\d\d(?!\d)")
_PHONE = re.compile(
    rf"""
    (?<![A-Za-z0-9_.,$€£¥+{_DASH}])(?:
      (?:\+|00)[1-9]\d{{0,2}}(?:[\s./{_DASH}]{{0,2}}\(?\d{{1,12}}\)?){{1,8}}             # +44 20 7946 0958
    | (?:1[\s.{_DASH}])?\(\d{{3}}\)[\s.{_DASH}]{{0,2}}\d{{3}}[\s.{_DASH}]?\d{{4}}      # (555) 123-4567
    | (?:1[\s.{_DASH}])?\d{{3}}(?P<sep>[.{_DASH}])\d{{3}}(?P=sep)\d{{4}}                 # 555-123-4567
    | (?:1\s)?[2-9]\d\d\s\d{{3}}\s\d{{4}}                                                # 555 123 4567
    | 0\d{{1,4}}(?:[ /{_DASH}]\d{{2,8}}){{0,2}}[ /{_DASH}]\d{{4,8}}                      # 020 7946 0958
    | 0\d\d\d[ ]\d{{3}}[ ]\d{{3}}                                                        # 0412 345 678
    | 0\d(?:[. ]\d\d){{4}}                                                               # 06.12.34.56.78
    | 1[3-9]\d[ {_DASH}]?\d{{4}}[ {_DASH}]?\d{{4}}                                       # 138 0013 8000
    )(?![A-Za-z0-9_{_DASH}])
    """,
    re.VERBOSE,
)
# A shorter or bare number counts as a telephone's only where the writer says so.
_NAMED_PHONE = re.compile(
    rf"(?P<name>\b(?:tele)?(?:phone|mobile|cell|call|tel|fax|whatsapp|sms|text\s+me)\b"
    rf"(?:\s+(?:me|us|him|her|number|no|is|at|on|my|under))*[\s.:#]{{0,3}}|(?:电话|手机|微信)(?:号码?|是)?[:：\s]{{0,3}})"
    rf"(?P<number>\(?\d(?:[\s()./{_DASH}]{{0,2}}\d){{6,14}})(?![A-Za-z0-9_])",
    re.IGNORECASE,
)

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0002ffff"
_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u0900-\u0903\u093a-\u094f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
)
_ASCII_WORD = re.compile(r"[a-z0-9]{2,}")
_UNICODE_WORD = re.compile(r"[^\W_]{2,}")
_SPECIAL_SCRIPT = re.compile(f"[{_CJK}{_MARKS}]")
_ANY_WORD = re.compile(rf"(?P<cjk>[{_CJK}]+)|(?:[^\W_{_CJK}]|[{_MARKS}]){{2,}}")
_STOP_WORDS: Final = frozenset({
    "an", "and", "are", "as", "at", "be", "been", "but", "by", "did", "do", "does", "don", "for",
    "from", "had", "has", "have", "he", "her", "him", "his", "if", "in", "into", "is", "it", "its",
    "just", "ll", "me", "my", "no", "not", "of", "off", "on", "or", "our", "out", "re", "she", "so",
    "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "to", "too", "up",
    "us", "ve", "was", "we", "were", "what", "when", "which", "who", "will", "with", "would", "you",
    "your",
})  # fmt: skip


def clean_text(raw: str, max_chars: int = 4000) -> str | None:
    """The text as a person would read it, or None when nothing is left.

    HTML entities are decoded and HTML's own tags removed (with the content of scripts, styles
    and comments), control characters dropped, lone surrogates replaced by U+FFFD, the rest
    normalised to NFC, white space collapsed. Of a text longer than `max_chars` (>= 1) the first and
    the last half stay, with a blank between them: what it is about stands at the beginning, the verdict
    often at the end. Cleaning twice changes nothing. Of markup that is more than eight times
    `max_chars` long the middle is lost before it is read.
    """
    return _cut(_tidy_ends(raw, max_chars), max_chars)


def clean_and_redact(raw: str, max_chars: int = 4000) -> str | None:
    """As `clean_text`, and as `redact` before the cut: half an address would not be recognised."""
    return _cut(redact(_tidy_ends(raw, max_chars)), max_chars)


def _cut(text: str, max_chars: int) -> str | None:
    if len(text) > max_chars:
        tail = (max_chars - 1) // 2
        head = max(1, max_chars - 1 - tail)
        text = _tidy(f"{text[:head]} {text[len(text) - tail :]}")  # the halves may make a tag
    return text or None


def _tidy_ends(raw: str, max_chars: int) -> str:
    """The whole text, tidy, or the two ends of one that is far too long."""
    if max_chars < 1:
        raise ValueError(f"max_chars must be at least 1, got {max_chars}")
    most = max(_MOST_READ, 8 * max_chars)
    if len(raw) <= most:
        return _tidy(raw)
    head, tail = _tidy(raw[: most // 2]), _tidy(raw[-most // 2 :])
    # Personal data that this cut may have split must not reach `redact` in parts.
    return _tidy(f"{head[:-_LONGEST_REDACTED]} {tail[_LONGEST_REDACTED:]}")


def _tidy(text: str) -> str:
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
    text = " ".join(text.split())  # first: the time to find a tag grows by the square of the blanks in it
    for _ in range(_MAX_ROUNDS):
        before = text
        text = _clean_once(text)
        if text == before or ("&" not in text and "<" not in text):
            break
    return text


def _clean_once(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(_unescape, text)
    if "<" in text and ">" in text:
        text = _strip_tags(text)
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split())


def _unescape(match: re.Match[str]) -> str:
    return _SURROGATE.sub("\ufffd", html.unescape(match.group()))


def _strip_tags(text: str) -> str:
    text = _strip_hidden(text)
    return _INLINE_TAG.sub("", _BLOCK_TAG.sub(" ", text))


def _strip_hidden(text: str) -> str:
    """Without scripts, styles and comments; linear however often one is opened and never closed."""
    kept: list[str] = []
    start = 0
    lowered = text.lower() if text.isascii() else text
    while opening := _HIDDEN_OPENING.search(text, start):
        closing = f"</{opening.group(1).lower()}>" if opening.group(1) else "-->"
        end = lowered.find(closing, opening.end())
        if end < 0:
            break
        kept += (text[start : opening.start()], " ")
        start = end + len(closing)
    return "".join((*kept, text[start:])) if start else text


def redact(text: str) -> str:
    """`text` with e-mail addresses, card and telephone numbers as [email], [card] and [phone].

    Card numbers have 13 to 19 digits, a known first digit and a right Luhn sum. Telephone numbers
    need a shape of their own (+country, area code in brackets, grouped national formats, Chinese
    mobiles) or a word such as "call" before them: bare digits are more often ASINs or orders.
    """
    if "@" in text:
        text = _EMAIL.sub("[email]", text)
    if _MANY_DIGITS.search(text) is None:
        return text
    text = _CARD_RUN.sub(_redact_cards, text)
    text = _PHONE.sub(_redact_phone, text)
    return _NAMED_PHONE.sub(lambda match: match["name"] + "[phone]", text)


def _redact_cards(match: re.Match[str]) -> str:
    run = match.group()
    if sum(map(str.isdigit, run)) < 13:
        return run
    groups = re.split(f"([ {_DASH}])", run)  # digits, separator, digits, ...
    kept: list[str] = []
    at = 0
    while at < len(groups):
        end = _card_end(groups, at)
        kept.append("[card]" if end else groups[at])
        at = end or at + 1
    return "".join(kept)


def _card_end(groups: list[str], start: int) -> int:
    """The end of the longest card number among `groups` from `start`, or 0."""
    if start % 2:
        return 0
    digits, found = "", 0
    for at in range(start, len(groups), 2):
        digits += groups[at]
        if len(digits) > 19:
            break
        if _is_card(digits):
            found = at + 1
    return found


def _is_card(digits: str) -> bool:
    if not 13 <= len(digits) <= 19 or digits[0] not in "23456" or (len(digits) == 13 and digits[0] != "4"):
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _redact_phone(match: re.Match[str]) -> str:
    number = match.group()
    digits = sum(map(str.isdigit, number))
    fewest, most = (8, 17) if number.startswith(("+", "00")) else (9, 12)
    if _DATE_START.match(number) or not fewest <= digits <= most:
        return number
    return "[phone]"


def text_hash(text: str) -> int:
    """Signed 64-bit BLAKE2b of a cleaned text, with case and white space folded."""
    folded = " ".join(text.casefold().split())
    digest = hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class _WordCache(dict[str, int]):
    """Word -> bucket, or -1 for a word that does not count."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _WORD_CACHE_SIZE:
            self.clear()
        bucket = self[word] = _bucket(word)
        return bucket


def _bucket(word: str) -> int:
    if word in _STOP_WORDS or word.isnumeric():
        return -1
    return zlib.crc32(_singular(word).encode("utf-8", "surrogatepass")) % WORD_BUCKETS


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1]


_BUCKETS: Final = _WordCache()


def word_ids(text: str) -> NDArray[np.uint16]:
    """Hashed words in [0, WORD_BUCKETS), in order and with repeats; shape (words,), uint16.

    Words are lower-cased runs of two or more letters or digits, without numbers and a small
    English stop list, plurals folded. Runs of Chinese, Japanese or Korean give one id for each
    pair of neighbouring characters (a single character gives its own).
    """
    lowered = text.lower()
    words = _ASCII_WORD.findall(lowered) if lowered.isascii() else _any_words(lowered)
    buckets = [bucket for bucket in map(_BUCKETS.__getitem__, words) if bucket >= 0]
    return np.array(buckets, dtype=np.uint16)


def _any_words(lowered: str) -> list[str]:
    if _SPECIAL_SCRIPT.search(lowered) is None:
        return _UNICODE_WORD.findall(lowered)
    words: list[str] = []
    for match in _ANY_WORD.finditer(lowered):
        run = match["cjk"]
        if run is None:
            words.append(match.group())
        elif len(run) == 1:
            words.append(run)
        else:
            words.extend(map(str.__add__, run, run[1:]))
    return words


def pseudonym(user_id: str, key: bytes) -> str:
    """HMAC-SHA256 of a user id in lower-case hex, 64 characters."""
    return hmac.digest(key, user_id.encode("utf-8", "surrogatepass"), "sha256").hex()
