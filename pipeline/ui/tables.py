"""The published tables of one folder, for a reader that stays while runs publish again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from models.errors import InputError
from models.tables import SCHEMAS, TABLES
from pipeline.tables.output_folder import Published, parquet_files, published_receipts
from pipeline.tables.reader import read_table
from pipeline.tables.titles import titles_of

_T = TypeVar("_T")
_CURRENT: Final = "recommendations_latest"


class Tables:
    """Reads at every call; what is dear to derive is kept until a file it came from changes."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self._kept: dict[str, tuple[str, Any]] = {}
        self._lock = Lock()

    def stamp(self, *names: str) -> str:
        """A short text that differs whenever a file of these tables was added, replaced or deleted."""
        digest = blake2b(digest_size=8)
        for name in names:
            for path in parquet_files(self.output / name):
                try:
                    found = path.stat()
                except FileNotFoundError:  # replaced between listing and looking
                    continue
                digest.update(f"{path}\0{found.st_ino}\0{found.st_mtime_ns}\0{found.st_size}\n".encode())
        return digest.hexdigest()

    def stamps(self) -> dict[str, str]:
        """Table -> stamp."""
        return {name: self.stamp(name) for name in TABLES}

    def rows(
        self, name: str, wanted: pc.Expression | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The wanted rows; none where the table has no file yet."""
        try:
            return read_table(str(self.output), name, wanted, None if columns is None else list(columns))
        except InputError:
            empty = SCHEMAS[name].empty_table()
            return empty if columns is None else empty.select(list(columns))

    def kept(self, what: str, names: Sequence[str], make: Callable[[], _T], also: str = "") -> _T:
        """`make()`, called again once a file of the tables `names`, or `also`, has changed."""
        key, stamp = what, self.stamp(*names) + also
        with self._lock:
            found = self._kept.get(key)
        if found is None or found[0] != stamp:
            found = (stamp, make())
            with self._lock:
                self._kept[key] = found
        made: _T = found[1]
        return made

    def title(self) -> Callable[[str], str | None]:
        """item_id -> title by the published index; None where that has none."""
        titled = titles_of(self.output)

        def title(item_id: str) -> str | None:
            found = titled(item_id)
            return None if found == item_id else found

        return title

    def published(self) -> Published | None:
        """The run that was published last; None before the first."""
        return published_receipts(self.output)

    def exist(self) -> bool:
        """Whether there are current lists to show."""
        return bool(parquet_files(self.output / _CURRENT))


def time_text(time: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds, as JSON carries times."""
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
