"""Reads training data: JSON Lines, CSV or TSV, plain or in gz or zip; a file, a folder, or several."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from models.errors import InputError

SUFFIXES: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
#: What each field is called in data that people have; the first name that a file has is taken.
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text", "review", "reviewText", "Review Text", "review_text", "body", "comment", "content"),
    "sentiment": ("sentiment", "label"),
    "rating": ("rating", "stars", "overall", "Rating", "star_rating"),
    "intensity": ("intensity",),
    "topics": ("topics", "topic"),
    "intent": ("intent",),
    "split": ("split", "fold"),
}
_CSV_FIELD_BYTES: Final = 16 << 20

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file that was read, as it stands in a run's config."""

    path: str
    sha256: str
    rows: int
    columns: Mapping[str, str]  # field -> the file's column


@dataclass(frozen=True, slots=True)
class Example:
    """One row: the raw values of the fields it has. `place` is for messages, as in "reviews.csv row 7"."""

    place: str
    values: Mapping[str, object]


def read_data(
    paths: Sequence[str | Path], columns: Mapping[str, str] | None = None
) -> tuple[list[Example], list[DataFile]]:
    """Every row of the files, and what was read from each.

    `columns` maps fields of `NAMES` to columns where they are called otherwise. Raises InputError when a
    file is missing, unreadable, of an unknown format, or has not a column that was named.
    """
    given = dict(columns or {})
    unknown = [field for field in given if field not in NAMES]
    if unknown:
        raise InputError(f"there is no field {unknown[0]!r}; the fields are {', '.join(NAMES)}")
    examples: list[Example] = []
    files = []
    for path in find_files(paths):
        rows = list(_read_file(path))
        found = _match_columns(path, rows, given)
        examples += _examples(path, rows, found)
        files.append(DataFile(str(path), file_hash(path), len(rows), found))
    return examples, files


def usable_text(example: Example) -> str | None:
    """The row's text; None without words, or with half of a surrogate pair, which no tokenizer takes."""
    text = example.values.get("text")
    return text if isinstance(text, str) and text.strip() and not is_broken(text) else None


def is_broken(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, as JSON may."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def find_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files, and those with a known suffix below the folders, in the order of their names."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.is_file() and _format(each.name))
            if not inside:
                raise InputError(f"{path}: no file with one of {', '.join(SUFFIXES)} (or .gz, .zip)")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"there is no file {path}")
    if not found:
        raise InputError("no data: give a file or a folder with --data")
    return found


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _format(name: str) -> str:
    """ "jsonl", "csv" or "tsv" by the name without .gz; "zip" for an archive; "" when unknown."""
    lower = name.lower()
    if lower.endswith(".zip"):
        return "zip"
    lower = lower.removesuffix(".gz")
    for suffix in SUFFIXES:
        if lower.endswith(suffix):
            return "jsonl" if suffix in (".jsonl", ".ndjson", ".json") else suffix[1:]
    return ""


def _read_file(path: Path) -> Iterator[Row]:
    form = _format(path.name)
    if not form:
        raise InputError(
            f"{path}: expected a name that ends in {', '.join(SUFFIXES)}, or these with .gz, or .zip"
        )
    try:
        if form != "zip":
            with _opened(path) as file:
                yield from _rows(file, form, str(path))
            return
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if _format(n) and not n.startswith("__MACOSX")]
            if not names:
                raise InputError(f"{path}: no file with one of {', '.join(SUFFIXES)} inside")
            for name in names:
                with archive.open(name) as file:
                    yield from _rows(file, _format(name), f"{path}/{name}")
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path}: {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.name.lower().endswith(".gz"):
        with gzip.open(path, "rb") as file:
            yield cast(IO[bytes], file)
    else:
        with path.open("rb") as plain:
            yield plain


def _rows(file: IO[bytes], form: str, place: str) -> Iterator[Row]:
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        if form == "jsonl":
            yield from _json_rows(text, place)
            return
        csv.field_size_limit(_CSV_FIELD_BYTES)
        reader = csv.DictReader(text, delimiter="\t" if form == "tsv" else ",")
        if not reader.fieldnames:
            raise InputError(f"{place}: expected a header with the columns' names, got an empty file")
        for row in reader:
            yield {name: value for name, value in row.items() if isinstance(name, str)}


def _json_rows(text: IO[str], place: str) -> Iterator[Row]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place} line {number}: expected one JSON object a line: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f"{place} line {number}: expected a JSON object, got {type(row).__name__}")
        yield row


def _match_columns(path: Path, rows: Sequence[Row], given: Mapping[str, str]) -> dict[str, str]:
    """Field -> column: the given one, or the first usual name that the file has."""
    present = dict.fromkeys(name for row in rows for name in row)
    for field, column in given.items():
        if column not in present:
            raise InputError(
                f"{path} has no column {column!r} for {field}; it has {', '.join(present) or 'no rows'}"
            )
    found = dict(given)
    for field, names in NAMES.items():
        usual = next((name for name in names if name in present), None)
        if field not in found and usual is not None and usual not in given.values():
            found[field] = usual
    if "text" not in found:
        raise InputError(
            f"{path} has no column of texts; it has {', '.join(present) or 'no rows'}: say which "
            "with --map text=COLUMN"
        )
    return found


def _examples(path: Path, rows: Sequence[Row], columns: Mapping[str, str]) -> Iterator[Example]:
    for number, row in enumerate(rows, 1):
        values = {field: row.get(column) for field, column in columns.items()}
        yield Example(f"{path.name} row {number}", {f: v for f, v in values.items() if v not in (None, "")})
