"""FnApiRunner for long: without what it gathers for the end of a short run, or for its own figures."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import pyarrow as pa
from apache_beam.runners.portability.fn_api_runner import fn_runner, worker_handlers
from apache_beam.runners.worker import bundle_processor, statesampler

#: Bundles leave few cycles and records none: looking for some among all that lives takes its time.
_COLLECTIONS: Final = (50_000, 20, 50)


@contextmanager
def engine_for_long() -> Iterator[None]:
    """The engine so, until the end of the context."""
    pool, collections = pa.default_memory_pool(), gc.get_threshold()
    with ExitStack() as after:
        for module, name, value in _replaced():
            after.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        after.callback(gc.set_threshold, *collections)
        gc.set_threshold(*_COLLECTIONS)
        after.callback(pa.set_memory_pool, pool)
        pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps a little of every small file
        yield


def _replaced() -> tuple[tuple[Any, str, object], ...]:
    return (
        # There is no state that the engine keeps; a cache of it would only measure the size of values.
        (worker_handlers, "STATE_CACHE_SIZE_MB", 0),
        # It chains the metrics of all bundles lazily for the end: some 50 kB a bundle, for ever.
        (fn_runner, "consolidate_monitoring_infos", _no_metrics),
        (bundle_processor.BundleProcessor, "monitoring_infos", _no_infos),
        (statesampler, "StateSampler", _Unsampled),
    )


def _no_metrics(*infos: object, **how: object) -> tuple[()]:
    return ()


def _no_infos(processor: object) -> list[object]:
    return []


class _Unsampled(statesampler.StateSampler):
    """Without the thread that looks which step runs: a bundle ends only when it wakes, up to 0.2 s later."""

    def start(self) -> None:
        self.tracked_thread = threading.current_thread()
        statesampler.set_current_tracker(self)
        self.started = True

    def stop(self) -> None:
        statesampler.set_current_tracker(None)
        self.finished = True
