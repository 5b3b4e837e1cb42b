"""How far a source of a cluster has read, told in a file: before what it has read is in a checkpoint."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Progress(NamedTuple):
    """How far the source has read; before what it has read is in a checkpoint."""

    offsets: dict[str, int]  # path -> bytes of whole regions, or partition -> next offset
    moved: float  # when the last of it was read; seconds since 1970


def write_progress(file: Path, progress: Progress) -> None:
    """Where `read_progress` finds it. What cannot be written is not told: reading goes on."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with suppress(OSError):
        partial.write_text(json.dumps(progress._asdict()))
        os.replace(partial, file)


def read_progress(file: Path) -> Progress:
    """What the source told last; nothing where it has not begun."""
    try:
        return Progress(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return Progress({}, 0.0)
