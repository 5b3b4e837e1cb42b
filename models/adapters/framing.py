"""Bytes to raw records in bounded memory, whatever the bytes are."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from models.adapters.base import FeedbackAdapter, RawRecord, length_and_hash, position_of
from models.errors import BadRecord, InputError

#: So many first bytes of what could not be read go on; enough for 200 characters after cleaning.
START_BYTES: Final = 4096
#: A quoted row may span so many lines.
MAX_ROW_LINES: Final = 500
_BOM = b"\xef\xbb\xbf"


class DamagedInput(Exception):
    """The input breaks off; what came before is good."""


@dataclass(slots=True)  # not frozen: one is made for every line
class _Line:
    """A physical line with its end, from `number` (1-based)."""

    number: int
    content: bytes
    fault: str = ""
    described: bytes = b""

    @property
    def blank(self) -> bool:
        return not self.fault and (not self.content or self.content.isspace())


def split_records(
    chunks: Iterator[bytes],
    adapter: FeedbackAdapter,
    name: str,
    max_record_bytes: int,
    check_header: bool = True,
    first_line: int = 1,
) -> Iterator[RawRecord]:
    """The records of one file, in order; a fault becomes a record that names it.

    `first_line` is the number of the line that the chunks begin with. Lines may end in LF, CR LF or
    CR, and blank ones are skipped. The header is not a record. Memory stays below a few times
    `max_record_bytes`. Raises InputError where the header lacks columns that the adapter needs for
    feedback, unless `check_header` is off.
    """
    lines = _lines(chunks, max_record_bytes, first_line)
    first = next((line for line in lines if not line.blank), None)
    if first is None:
        return
    framing = adapter.framing(first.content)
    rest = _Pushback(lines, first)
    records = _quoted(rest, framing.quoted, max_record_bytes) if framing.quoted else rest
    header = _header(records, name) if framing.header else b""
    if header and check_header:
        _check_header(header, adapter, name)
    for line in records:
        if line.fault:
            yield line.content, position_of(name, line.number), line.described, line.fault
        elif not line.blank:
            yield line.content.rstrip(b"\r\n"), position_of(name, line.number), header, ""


def _header(records: Iterator[_Line], name: str) -> bytes:
    line = next(records)
    if line.fault:
        raise InputError(f"{name}: expected a header line, got {line.fault}")
    return line.content.rstrip(b"\r\n")


def _check_header(header: bytes, adapter: FeedbackAdapter, name: str) -> None:
    try:
        missing = adapter.missing_columns(header)
    except BadRecord as error:
        raise InputError(f"{name}: the header cannot be read: {error.reason}") from None
    if missing:
        raise InputError(f"{name}: the header lacks {missing}")


class _Pushback(Iterator[_Line]):
    """An iterator that takes lines back."""

    def __init__(self, lines: Iterator[_Line], *first: _Line) -> None:
        self._lines = lines
        self._waiting = deque(first)

    def __next__(self) -> _Line:
        return self._waiting.popleft() if self._waiting else next(self._lines)

    def push(self, lines: list[_Line]) -> None:
        """Gives `lines` out again, the first one first."""
        self._waiting.extendleft(reversed(lines))


def _quoted(lines: _Pushback, delimiter: bytes, limit: int) -> Iterator[_Line]:
    """Lines joined while a quoted field is open."""
    for line in lines:
        if line.fault or b'"' not in line.content or not _ends_quoted(line.content, delimiter, False):
            yield line
        else:
            yield _join_quoted(line, lines, delimiter, limit)


def _join_quoted(first: _Line, lines: _Pushback, delimiter: bytes, limit: int) -> _Line:
    """The record that `first` opens; where it never closes, only `first`, as a fault.

    Its other lines are then given out again, so that one stray quote costs one row. The number of
    lines in a row is bounded, or a hostile file could have each of them search to its end.
    """
    taken: list[_Line] = []
    size = len(first.content)
    for line in lines:
        taken.append(line)
        size += len(line.content)
        if line.fault or size > limit or len(taken) > MAX_ROW_LINES:
            break
        if b'"' in line.content and not _ends_quoted(line.content, delimiter, True):
            return _Line(first.number, first.content + b"".join(each.content for each in taken))
    lines.push(taken)
    fault = "invalid_csv: a quoted field that begins in this row is never closed"
    return _faulty(first.number, first.content.rstrip(b"\r\n"), fault)


def _ends_quoted(line: bytes, delimiter: bytes, inside: bool) -> bool:
    """Whether a quoted field is open after `line`; `inside` says whether one was open before."""
    at, field_start = 0, not inside
    while at < len(line):
        if inside:
            at = line.find(b'"', at) + 1
            if at == 0:
                return True
            if line[at : at + 1] == b'"':
                at += 1
            else:
                inside = False
        elif field_start and line[at : at + 1] == b'"':
            inside, at = True, at + 1
        else:
            at = line.find(delimiter, at) + 1
            if at == 0:
                return False
        field_start = not inside and line[at - 1 : at] == delimiter
    return inside


def _lines(chunks: Iterator[bytes], limit: int, number: int = 1) -> Iterator[_Line]:
    """Physical lines with their ends; a longer one than `limit`, and a damaged end, as a fault."""
    tail = bytearray()
    try:
        for chunk in chunks:
            split, tail = _split(tail, chunk)
            for content in split:
                yield _line(number, content, limit)
                number += 1
            if len(tail) > limit + len(_BOM) + 2:
                skipped, tail = _skip_line(number, bytes(tail), chunks, limit)
                yield skipped
                number += 1
    except DamagedInput as damage:
        fault = f"truncated_input: {damage}; the records before it were read"
        yield _faulty(number, bytes(tail), fault)
        return
    if tail:
        yield _line(number, bytes(tail), limit)


def _split(tail: bytearray, chunk: bytes) -> tuple[list[bytes], bytearray]:
    """The lines that `chunk` ends, the first of which began with `tail`, and the unended rest."""
    if b"\n" not in chunk and b"\r" not in chunk and not tail.endswith(b"\r"):
        tail += chunk
        return [], tail
    split = bytes(tail + chunk).splitlines(keepends=True)
    # A CR at the end may be half of a CR LF.
    return split, bytearray() if split[-1].endswith(b"\n") else bytearray(split.pop())


def _skip_line(number: int, tail: bytes, chunks: Iterator[bytes], limit: int) -> tuple[_Line, bytearray]:
    """Reads to the end of an overlong line, keeping its start; returns it and what follows."""
    digest, length, start = hashlib.sha256(), 0, tail[:START_BYTES]
    for chunk in chain((tail,), chunks):
        head = chunk.splitlines(keepends=True)[0] if chunk else b""
        content = head.rstrip(b"\r\n")
        digest.update(content)
        length += len(content)
        if len(head) > len(content):
            return _overlong(number, start, length, digest, limit), bytearray(chunk[len(head) :])
    return _overlong(number, start, length, digest, limit), bytearray()


def _line(number: int, content: bytes, limit: int) -> _Line:
    if number == 1:
        content = content.removeprefix(_BOM)
    if len(content) <= limit:
        return _Line(number, content)
    content = content.rstrip(b"\r\n")
    if len(content) <= limit:
        return _Line(number, content)
    return _overlong(number, content[:START_BYTES], len(content), hashlib.sha256(content), limit)


def _overlong(number: int, start: bytes, length: int, digest: hashlib._Hash, limit: int) -> _Line:
    fault = f"too_long: expected at most {limit} bytes a record, got {length}; see --max_record_bytes"
    return _Line(number, start, fault, length_and_hash(length, digest.hexdigest()).encode())


def _faulty(number: int, content: bytes, fault: str) -> _Line:
    described = length_and_hash(len(content), hashlib.sha256(content).hexdigest()).encode()
    return _Line(number, content[:START_BYTES], fault, described)
