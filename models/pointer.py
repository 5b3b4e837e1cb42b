"""Publishing by a pointer file: `<folder>/CURRENT` names the version whose folder lies beside it.

A version appears under its name only when it is whole, and the pointer moves in one step, so that a reader
sees the old version or the new one and never a part.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

POINTER: Final = "CURRENT"


def read_pointer(folder: Path) -> Path | None:
    """The folder of the published version, None when nothing is published in `folder`."""
    try:
        version = (folder / POINTER).read_text("utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return folder / version


def write_pointer(folder: Path, version: str) -> None:
    """Points at `<folder>/<version>`, at once and durably."""
    handle, name = tempfile.mkstemp(prefix=f".{POINTER}.", dir=folder)
    with os.fdopen(handle, "w") as file:
        file.write(version + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, folder / POINTER)
