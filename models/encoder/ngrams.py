"""Hashed n-grams of a text that is written without spaces: the graph's second input, `ngram_ids`.

Training and serving share this function. A unit is one ideograph, one mark, or one run of letters and
digits; an n-gram is 1 to 3 units in a row of which at least one is an ideograph, so a text without
ideographs has none.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

ALGORITHM: Final = "units-fnv-1"
MIN_N, MAX_N = 1, 3
SCOPE: Final = "ideographs"
MAX_UNITS: Final = 1_000  # a longer text counts with its first and its last half of these

_UNIT = re.compile("[a-z0-9]+|[^\\sa-z0-9]")
_FIRST, _LAST = 0x3400, 0x9FFF  # ideographs of the basic plane and of extension A
_RUN: Final = 1 << 32  # keeps the hash of a run apart from every character
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_FOLD = np.uint64(29)


def ngram_ids(text: str, buckets: int) -> Ids:
    """The distinct buckets of the text's n-grams, ascending, in [0, buckets); `buckets` is a power of two."""
    if text.isascii():
        return np.empty(0, np.int64)
    units = _units(text)
    wide = (units >= _FIRST) & (units <= _LAST)
    if not wide.any():
        return np.empty(0, np.int64)
    codes, chosen = units * _PRIME, wide
    found = [codes[chosen]]
    for n in range(2, min(MAX_N, len(units)) + 1):
        codes = ((codes[:-1] ^ (codes[:-1] >> _FOLD)) + units[n - 1 :]) * _PRIME
        chosen = chosen[:-1] | wide[n - 1 :]
        found.append(codes[chosen])
    hashes = np.concatenate(found)
    shift = np.uint64(64 - (buckets.bit_length() - 1))
    return np.unique((hashes ^ (hashes >> _FOLD)) * _PRIME >> shift).astype(np.int64)


def _units(text: str) -> NDArray[np.uint64]:
    """One number a unit: a character's code point, or the CRC of a run."""
    units = _UNIT.findall(unicodedata.normalize("NFKC", text).lower())
    if len(units) > MAX_UNITS:
        units = units[: MAX_UNITS // 2] + units[-MAX_UNITS // 2 :]
    return np.array(
        [ord(unit) if len(unit) == 1 else _RUN + zlib.crc32(unit.encode()) for unit in units], np.uint64
    )


def describe_ngrams(buckets: int) -> dict[str, object]:
    """What the manifest says under "ngrams": everything a scorer has to agree on."""
    return {"algorithm": ALGORITHM, "buckets": buckets, "min_n": MIN_N, "max_n": MAX_N, "scope": SCOPE}


def read_buckets(ngrams: Mapping[str, object]) -> int:
    """The number of buckets of a manifest's "ngrams".

    Raises ValueError unless the n-grams are those of this module.
    """
    buckets = ngrams.get("buckets")
    known = isinstance(buckets, int) and buckets > 1 and buckets & (buckets - 1) == 0
    if not known or dict(ngrams) != describe_ngrams(int(str(buckets))):
        raise ValueError(
            f"expected n-grams {describe_ngrams(1 << 20)} with a power of two of buckets, got {dict(ngrams)}"
        )
    return int(str(buckets))
