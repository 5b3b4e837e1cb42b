"""One Python worker: `python -m pipeline.cluster.worker CONTROL_ADDRESS WORKER_ID STATE_CACHE_MB`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

from apache_beam.runners.worker import statecache
from apache_beam.runners.worker.sdk_worker import SdkHarness

from pipeline.cluster.processes import end_with_parent


def weight(value: object) -> int:
    """Bytes of a cached state, about: a list of what was encoded, or the head of one that came in parts.

    Beam's own measure walks all loaded modules for each value, which costs more than the cache saves.
    """
    held: Iterable[object] = ()
    if isinstance(value, (list, tuple)):
        held = value
    elif isinstance(value, statecache.CacheAware):
        held = value.get_referents_for_cache()
    return sys.getsizeof(value) + sum(map(weight, held))


def work(address: str, worker_id: str, cache_mb: int) -> None:
    """Serves a task manager until it goes."""
    end_with_parent()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    statecache.get_deep_size = weight
    # Whatever is not 0 for the time limit flushes elements that are half written.
    harness = SdkHarness(
        address, worker_id=worker_id, state_cache_size=cache_mb << 20, data_buffer_time_limit_ms=0
    )
    harness.run()


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
