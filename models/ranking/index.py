"""Builds and publishes the item index.

`encode_log` makes a blob of each partition's views, `build_index` learns from all blobs into
a directory, `publish_index` moves it to its place and points at it, `ItemIndex.open` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.ranking.catalogue import merge_catalogue
from models.ranking.config import DEFAULT_INDEX, IndexConfig
from models.ranking.content import text_vectors
from models.ranking.fallback import popularity_fusion
from models.ranking.fit import add_static, fit_fusion
from models.ranking.item_index import ItemIndex
from models.ranking.learning import Arrays, catalogue_arrays, know, learn_arrays
from models.ranking.log import InteractionLog, merge_logs
from models.ranking.statistics import rating_statistics
from models.ranking.store import IndexManifest, publish_index, read_manifest, read_pointer, write_arrays
from models.records import Item, Micros

__all__ = [
    "IndexConfig",
    "IndexManifest",
    "ItemIndex",
    "build_index",
    "learn_index",
    "publish_index",
    "read_manifest",
    "read_pointer",
]


def build_index(
    logs: Iterable[bytes],
    items: Iterable[Item],
    vectors: Iterable[tuple[int, str, bytes]],
    config: IndexConfig,
    clock: Micros | None,
    directory: Path,
) -> IndexManifest:
    """Writes an index into `directory`, which appears only when it is whole.

    `logs` are `encode_log`'s blobs, in any order and partitioning; `vectors` are (text_hash,
    item_id of a catalogue text or "", float16 unit vector). `clock` is that of decay, by
    default the newest event's. Equal inputs give equal files and an equal version.
    """
    arrays, meta = _learn(merge_logs(logs), items, vectors, config, clock)
    return write_arrays(arrays, meta, directory)


def learn_index(
    log: InteractionLog,
    items: Iterable[Item],
    vectors: Iterable[tuple[int, str, bytes]] = (),
    config: IndexConfig = DEFAULT_INDEX,
    clock: Micros | None = None,
) -> ItemIndex:
    """The same index in memory."""
    arrays, meta = _learn(log, items, vectors, config, clock)
    return ItemIndex(arrays, meta)


def _learn(
    log: InteractionLog,
    items: Iterable[Item],
    vectors: Iterable[tuple[int, str, bytes]],
    config: IndexConfig,
    clock: Micros | None,
) -> tuple[Arrays, dict[str, Any]]:
    clock = log.newest_time if clock is None else clock
    merged = merge_catalogue(items, log.item_ids)
    texts, owned = text_vectors(vectors)
    known = know(merged, texts, owned, config, clock)
    place = {item.item_id: number for number, item in enumerate(merged)}
    of_log = np.array([place[item_id] for item_id in log.item_ids], dtype=np.int64)
    item = of_log[log.item]
    catalogue = catalogue_arrays(merged)
    fit = fit_fusion(log, item, known, catalogue)
    arrays = catalogue | learn_arrays(log, item, known)
    if fit.fusion is None:
        fusion = popularity_fusion(arrays, config.history, fit.figures)
    else:
        fusion = replace(fit.fusion, figures=fit.figures)
    add_static(arrays, fusion)
    meta = {
        "config": asdict(config),
        "clock": clock,
        "items": len(merged),
        "users": len(log.user_ids),
        "interactions": len(log),
        "ratings": rating_statistics(log.rating).as_json(),
        "fusion": fusion.as_json(),
    }
    return arrays, meta
