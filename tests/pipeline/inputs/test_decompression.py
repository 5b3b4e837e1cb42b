"""Compressed bytes come back whole, whatever their members, and damage costs only what it hit."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from models.adapters.framing import DamagedInput
from models.errors import InputError
from pipeline.inputs.decompression import decompressed


def zipped(content: bytes, *others: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("reviews.csv", content)
        for name in others:
            archive.writestr(name, b"x")
    return buffer.getvalue()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": lambda content: bz2.compress(content, 1),
    "zst": zstandard.compress,
    "xz": lzma.compress,
    "zip": zipped,
}
STREAMED = ("gz", "bz2", "zst", "xz")
NOISE = random.Random(7).randbytes(1_000_000)


def read(content: bytes) -> tuple[bytes, str]:
    got = b""
    try:
        for chunk in decompressed(io.BytesIO(content), "f"):
            got += chunk
    except DamagedInput as damage:
        return got, str(damage)
    return got, ""


@pytest.mark.parametrize("kind", COMPRESSORS)
@given(content=st.binary())
def test_any_content_comes_back(kind: str, content: bytes) -> None:
    # A plain text that begins like an archive is not meant here.
    assert read(COMPRESSORS[kind](b"{" + content)) == (b"{" + content, "")


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_large_and_empty_content_come_back(kind: str) -> None:
    for content in (b"", NOISE, b"0" * 3_000_000):
        assert read(COMPRESSORS[kind](content)) == (content, "")


@pytest.mark.parametrize("kind", STREAMED)
def test_several_members_are_read_one_after_the_other(kind: str) -> None:
    compress = COMPRESSORS[kind]
    assert read(compress(b"one") + compress(b"") + compress(NOISE) + compress(b"two")) == (
        b"one" + NOISE + b"two",
        "",
    )


@pytest.mark.parametrize("kind", STREAMED)
def test_what_came_before_an_early_end_is_kept(kind: str) -> None:
    got, damage = read(COMPRESSORS[kind](NOISE)[:800_000])
    # bzip2 and zstd give whole blocks only.
    assert len(got) >= 500_000
    assert got == NOISE[: len(got)]
    assert damage.endswith("data ends early")


@pytest.mark.parametrize("kind", (*STREAMED, "zip"))
def test_flipped_bits_are_told_and_what_came_before_is_kept(kind: str) -> None:
    content = bytearray(COMPRESSORS[kind](NOISE))
    content[900_000] ^= 0xFF
    got, damage = read(bytes(content))
    # zstd writes no checksum unless asked to, and stores noise as it is.
    assert damage or kind == "zst"
    assert got[:400_000] == NOISE[:400_000]


def test_a_truncated_zip_is_told() -> None:
    got, damage = read(zipped(NOISE)[:500_000])
    assert got == b""
    assert damage.startswith("the zip data ends early or is damaged")


def test_garbage_behind_a_member_is_told_and_zero_padding_is_not() -> None:
    assert read(gzip.compress(b"one") + b"\0" * 1000) == (b"one", "")
    assert read(gzip.compress(b"one") + b"garbage") == (
        b"one",
        "something that is not gzip follows the gzip data",
    )


def test_a_zip_of_several_files_is_refused() -> None:
    with pytest.raises(InputError, match=r"f: expected a zip of one file, got 2 \(reviews.csv, b.csv\)"):
        read(zipped(b"a", "b.csv"))


def test_hidden_members_of_a_zip_do_not_count() -> None:
    assert read(zipped(b"a", "__MACOSX/._reviews.csv", ".DS_Store"))[0] == b"a"


@pytest.mark.parametrize("kind", STREAMED)
def test_a_bomb_is_read_in_bounded_memory(kind: str) -> None:
    bomb = COMPRESSORS[kind](b"0" * 20_000_000)
    tracemalloc.start()
    assert sum(map(len, decompressed(io.BytesIO(bomb), "f"))) == 20_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000
