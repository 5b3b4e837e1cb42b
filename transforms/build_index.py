"""BuildIndex: learns the item index from the users' canonical sets and publishes it.

Each bundle turns its users into one columnar blob, and one step merges the blobs in the
canonical order, so that any partitioning learns the same index, byte for byte.
"""

from __future__ import annotations

import itertools
import secrets
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import apache_beam as beam
import numpy as np
from apache_beam import typehints
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from models.ranking.config import IndexConfig
from models.ranking.index import build_index
from models.ranking.log import encode_log
from models.records import Item, Micros
from models.state import StateConfig
from models.text import clean_text, text_hash
from models.views import UserView, ViewPolicy, view_user
from transforms.index_archive import is_remote, publish
from transforms.update_state import UserRefresh

_LOG: Final = "log"
_VECTORS: Final = "vectors"
_ITEM: Final = "item"
_USERS_A_BLOB: Final = 20_000

TextVector = tuple[int, str, bytes]


@dataclass
class BuildIndex(beam.PTransform):
    """Refreshes, items, text vectors and the clock -> PCollection[str]: where it is, for `index_folder`.

    Takes a dict of PCollections: `refreshes` (UserRefresh), `items` (Item), `text_vectors`
    (text hash, model version, float16 bytes), and `clock`, a one-element PCollection of
    microseconds. The index is written under `root`/<version>/ and then published by a
    pointer file, so that a reader never sees half of it.
    """

    root: str
    state: StateConfig = field(default_factory=StateConfig)
    policy: ViewPolicy = field(default_factory=ViewPolicy)
    index: IndexConfig = field(default_factory=IndexConfig)

    def expand(self, inputs: dict[str, beam.PCollection]) -> beam.PCollection[str]:
        clock = beam.pvalue.AsSingleton(inputs["clock"])
        parts = (
            inputs["refreshes"] | "EncodeLog" >> beam.ParDo(_EncodeLog(self.state, self.policy), clock),
            inputs["text_vectors"] | "EncodeVectors" >> beam.ParDo(_EncodeVectors()),
            inputs["items"] | "TagItems" >> beam.Map(_tag_item),
        )
        pipeline = inputs["clock"].pipeline
        # A part without any element must not keep the index from being built.
        start = pipeline | "Start" >> beam.Create([(0, ("", b""))])
        return (
            (*parts, start)
            | "FlattenParts" >> beam.Flatten()
            | "GatherParts" >> beam.GroupByKey()
            | "LearnAndPublish" >> beam.ParDo(_LearnAndPublish(self.root, self.index), clock)
        )


class _EncodeLog(beam.DoFn):
    def __init__(self, state: StateConfig, policy: ViewPolicy) -> None:
        self._ttl = state.ttl_micros
        self._policy = policy
        self._views: list[UserView] = []

    def start_bundle(self) -> None:
        self._views = []

    def process(self, refresh: UserRefresh, clock: Micros) -> Iterator[tuple[int, tuple[str, bytes]]]:
        if not refresh.erased:
            self._views.append(view_user(refresh.user_id, refresh.state, self._policy, clock, self._ttl))
        if len(self._views) >= _USERS_A_BLOB:
            yield 0, (_LOG, encode_log(self._views))
            self._views = []

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._views:
            yield GlobalWindows.windowed_value((0, (_LOG, encode_log(self._views))))
            self._views = []


class _EncodeVectors(beam.DoFn):
    """Packs the vectors of a bundle, each distinct text once: hashes, version, float16 rows."""

    def __init__(self) -> None:
        self._vectors: dict[tuple[int, str], bytes] = {}

    def start_bundle(self) -> None:
        self._vectors = {}

    def process(self, vector: TextVector) -> None:
        hashed, model_version, embedding = vector
        self._vectors[(hashed, model_version)] = embedding

    def finish_bundle(self) -> Iterator[WindowedValue]:
        by_version = itertools.groupby(sorted(self._vectors), key=lambda key: key[1])
        for version, keys in by_version:
            hashes = [hashed for hashed, _ in keys]
            rows = b"".join(self._vectors[(hashed, version)] for hashed in hashes)
            packed = pack_vectors(version, hashes, rows)
            yield GlobalWindows.windowed_value((0, (_VECTORS, packed)))


def pack_vectors(version: str, hashes: list[int], rows: bytes) -> bytes:
    """One blob: lengths, version, int64 hashes, float16 rows."""
    name = version.encode()
    head = np.array([len(name), len(hashes)], dtype="<i8").tobytes()
    return head + name + np.array(hashes, dtype="<i8").tobytes() + rows


def unpack_vectors(packed: bytes) -> Iterator[TextVector]:
    """Reads what `pack_vectors` wrote."""
    name_length, count = np.frombuffer(packed, dtype="<i8", count=2).tolist()
    hashes_at = 16 + name_length
    version = packed[16:hashes_at].decode()
    rows_at = hashes_at + 8 * count
    hashes = np.frombuffer(packed, dtype="<i8", count=count, offset=hashes_at).tolist()
    width = (len(packed) - rows_at) // count
    for position, hashed in enumerate(hashes):
        start = rows_at + position * width
        yield hashed, version, packed[start : start + width]


def item_text(item: Item) -> str:
    """The words of a catalogue entry, as they are embedded; empty without any."""
    return clean_text(f"{item.title}. {item.description}" if item.description else item.title) or ""


def owned_vectors(vectors: Iterable[TextVector], items: Iterable[Item]) -> Iterator[TextVector]:
    """(text hash, item_id, vector): the items whose catalogue text it is, "" for feedback's texts."""
    owners: dict[int, list[str]] = defaultdict(list)
    for item in items:
        if text := item_text(item):
            owners[text_hash(text)].append(item.item_id)
    for hashed, _, vector in vectors:
        yield hashed, "", vector
        for item_id in owners.get(hashed, ()):
            yield hashed, item_id, vector


def _tag_item(item: Item) -> tuple[int, tuple[str, Item]]:
    return 0, (_ITEM, item)


@typehints.with_output_types(str)
class _LearnAndPublish(beam.DoFn):
    def __init__(self, root: str, config: IndexConfig) -> None:
        self._root = root
        self._config = config

    def process(
        self, gathered: tuple[int, Iterable[tuple[str, bytes | Item]]], clock: Micros
    ) -> Iterator[str]:
        logs: list[bytes] = []
        vectors: list[TextVector] = []
        items: list[Item] = []
        for tag, part in gathered[1]:
            if isinstance(part, Item):
                items.append(part)
            elif tag == _LOG:
                logs.append(part)
            elif tag == _VECTORS:
                vectors.extend(unpack_vectors(part))
        with _building(self._root) as build:
            build_index(logs, items, owned_vectors(vectors, items), self._config, clock, build)
            yield publish(self._root, build)


@contextmanager
def _building(root: str) -> Iterator[Path]:
    """Where an index is built: beside the local ones, so that it moves there in one step."""
    if not is_remote(root):
        yield Path(root) / "index" / f".build-{secrets.token_hex(6)}"
        return
    with tempfile.TemporaryDirectory(prefix="livelist-") as scratch:
        yield Path(scratch, "build")
