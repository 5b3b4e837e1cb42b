"""The log of an endless run: files that grow and spools, read as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.adapters.base import RawRecord
from pipeline.inputs.growing_files import GrowingFiles, Place
from pipeline.live.spool import spooled_records


class LiveLog:
    """Reads what `look` or `follow` saw of every part, turn by turn."""

    def __init__(
        self,
        patterns: Sequence[str],
        spools: Sequence[Path],
        max_record_bytes: int,
        places: Mapping[str, Place] | None = None,
    ) -> None:
        self._patterns, self._spools = tuple(patterns), tuple(map(str, spools))
        self._max_record_bytes = max_record_bytes
        known = places or {}
        self._parts: list[GrowingFiles] = []
        if self._patterns:
            mine = {path: place for path, place in known.items() if not self._spooled(path)}
            self._parts.append(GrowingFiles(self._patterns, max_record_bytes, mine))
        if self._spools:
            mine = {path: place for path, place in known.items() if self._spooled(path)}
            split = spooled_records(max_record_bytes)
            self._parts.append(GrowingFiles(self._spools, max_record_bytes, mine, split))

    def from_the_start(self) -> LiveLog:
        """Another reader of the same log, which has read nothing yet."""
        return LiveLog(self._patterns, tuple(map(Path, self._spools)), self._max_record_bytes)

    @property
    def places(self) -> dict[str, Place]:
        """How far each file was read."""
        return {path: place for part in self._parts for path, place in part.places.items()}

    def look(self, find_new: bool) -> None:
        """Sees how long the files are now; until the next look no more than that is read."""
        for part in self._parts:
            part.look(find_new)

    def follow(self, leader: Mapping[str, Place]) -> None:
        """Sees the files as far as another reader has read them; no more than that is read."""
        for part in self._parts:
            spooled = part is self._parts[-1] and bool(self._spools)
            part.follow({path: place for path, place in leader.items() if self._spooled(path) == spooled})

    def take(self) -> RawRecord | None:
        """The next record of what was seen; None when there is no more."""
        for part in self._parts:
            if (record := part.take()) is not None:
                return record
        return None

    def unfinished(self) -> list[str]:
        """The followed files with bytes that are not a whole line yet."""
        return [path for part in self._parts for path in part.unfinished() if not self._spooled(path)]

    def _spooled(self, path: str) -> bool:
        return any(path.startswith(spool + "/") for spool in self._spools)
