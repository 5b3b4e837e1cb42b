"""glibc's heap in a process that runs for long: what is free goes back to the system.

Threads that read and write tables leave free pieces in an arena each, up to eight for every processor, and
after the first large buffer that is freed glibc keeps those to come. Elsewhere than on glibc nothing is done.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

#: Parameters of mallopt(3).
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
_ARENAS: Final = 2
_LARGE: Final = 256 << 10  # bytes: such a buffer is the system's, and goes back to it when it is freed


@cache
def _libc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
    except OSError:
        return None


def keep_small() -> None:
    """From now on, and for good: few arenas, and none for large buffers."""
    if (libc := _libc()) is not None:
        libc.mallopt(_ARENA_MAX, _ARENAS)
        libc.mallopt(_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Gives what is free to the system; takes some milliseconds, in which other threads go on."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)
