"""Checkpoints of an endless run on disk: everybody's state and how far the log was read, between two bundles.

    <state_dir>/checkpoints/<bundle>/users.arrow     user_id, state, shown, waiting
                                     vectors.arrow   text_hash, model_version, vector
                                     meta            cursors, books, trends: msgpack
                                     SEAL            the SHA-256 of the others

A checkpoint appears whole, by a rename, and is verified when it is read; the two newest are kept, so
that a start has another one where a disk has spoiled the newest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgpack
import pyarrow as pa

from models.errors import OutputError
from models.records import Micros
from models.trends import TrendKey, TrendSum
from pipeline.inputs.growing_files import Place
from pipeline.live.state import Done
from pipeline.tables.files import link_file
from pipeline.tables.output_folder import sync_file, unwritable
from transforms.live_store import LiveStore

KEPT: Final = 2
_FORMAT: Final = 1
_SEAL: Final = "SEAL"
_FILES: Final = ("users.arrow", "vectors.arrow", "meta")
_USERS: Final = pa.schema(
    [("user_id", pa.binary()), ("state", pa.binary()), ("shown", pa.binary()), ("waiting", pa.binary())]
)
_VECTORS: Final = pa.schema(
    [("text_hash", pa.int64()), ("model_version", pa.string()), ("vector", pa.large_binary())]
)
_ROWS: Final = 20_000  # of a batch; bounds what is turned into Arrow at a time
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """One picture of a run. The maps are copies; their values never change."""

    run_id: str
    job: str  # a fingerprint of what the states depend on
    done: Done
    lane: dict[str, Place]  # how far texts were read that are scored
    states: Mapping[str, bytes]
    shown: Mapping[str, bytes]
    waiting: Mapping[str, bytes]
    relist: frozenset[str]
    vectors: Mapping[int, tuple[str, bytes]]
    replacing: bool = False  # tables of an earlier run stand yet, and are to go
    newest: Micros = 0  # the clock of lateness, where that is judged

    def store(self) -> LiveStore:
        """What the steps of the job go on with."""
        return LiveStore(
            dict(self.states),
            dict(self.shown),
            dict(self.waiting),
            set(self.relist),
            OrderedDict(self.vectors),
            newest=self.newest,
        )


def picture(
    run_id: str, job: str, done: Done, store: LiveStore, lane: Mapping[str, Place], replacing: bool
) -> Checkpoint:
    """The checkpoint of this moment: call it between two bundles."""
    return Checkpoint(
        run_id,
        job,
        done,
        dict(lane),
        dict(store.states),
        dict(store.shown),
        dict(store.waiting),
        frozenset(store.relist),
        dict(store.vectors),
        replacing,
        store.newest,
    )


def write_checkpoint(state_dir: Path, checkpoint: Checkpoint) -> Path:
    """Returns the folder of the checkpoint once it is on disk; older ones go. Raises OutputError."""
    folder = state_dir / "checkpoints"
    final = folder / f"{checkpoint.done.bundle:012d}"
    partial = folder / f".{final.name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_users(partial / "users.arrow", checkpoint)
        _write_vectors(partial / "vectors.arrow", checkpoint.vectors)
        (partial / "meta").write_bytes(_packed(checkpoint))
        (partial / _SEAL).write_text(json.dumps({name: _digest(partial / name) for name in _FILES}))
        for name in (*_FILES, _SEAL):
            sync_file(partial / name)
        shutil.rmtree(final, ignore_errors=True)  # of a drain without new feedback
        os.replace(partial, final)
        sync_file(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise unwritable(state_dir, error) from error
    for old in _folders(state_dir)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest_checkpoint(state_dir: Path) -> Checkpoint | None:
    """The newest that is sound; None where there is none. One that is not is told in the log."""
    for folder in _folders(state_dir):
        try:
            return read_checkpoint(folder)
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
            _LOG.error("the checkpoint %s is damaged, the one before it serves: %s", folder, error)
    return None


def oldest_lane(state_dir: Path) -> dict[str, Place]:
    """How far the log was read, texts and all, in every checkpoint that is kept."""
    folders = _folders(state_dir)
    if len(folders) < KEPT:
        return {}
    meta = msgpack.unpackb((folders[-1] / "meta").read_bytes(), use_list=False, strict_map_key=False)
    return _places(meta["lane"])


def read_checkpoint(folder: Path) -> Checkpoint:
    """Raises OSError or ValueError where it is not sound."""
    sealed = json.loads((folder / _SEAL).read_text())
    for name in _FILES:
        if _digest(folder / name) != sealed[name]:
            raise ValueError(f"{name} is not what was written")
    meta = msgpack.unpackb((folder / "meta").read_bytes(), use_list=False, strict_map_key=False)
    if meta["format"] != _FORMAT:
        raise ValueError(f"format {_FORMAT} was expected, {meta['format']} came")
    states: dict[str, bytes] = {}
    shown: dict[str, bytes] = {}
    waiting: dict[str, bytes] = {}
    for user, *values in _rows(folder / "users.arrow"):
        user_id = user.decode("utf-8", "surrogatepass")
        for kept, value in zip((states, shown, waiting), values, strict=True):
            if value is not None:
                kept[user_id] = value
    return Checkpoint(
        meta["run_id"],
        meta["job"],
        _done(meta),
        _places(meta["lane"]),
        states,
        shown,
        waiting,
        frozenset(meta["relist"]),
        {text: (version, vector) for text, version, vector in _rows(folder / "vectors.arrow")},
        meta["replacing"],
        meta.get("judged_to", 0),  # older checkpoints have none
    )


def hold(folder: Path) -> Path:
    """The files of a checkpoint in a folder of the caller's, where they stay when newer ones push it out."""
    kept = Path(tempfile.mkdtemp(prefix=".held-", dir=folder.parent))
    for name in _FILES:
        link_file(folder / name, kept / name)
    return kept


def read_states(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(user_id, encoded state) of a checkpoint, without the rest."""
    for user, state, *_ in _rows(folder / "users.arrow"):
        if state is not None:
            yield user.decode("utf-8", "surrogatepass"), state


def read_vectors(folder: Path) -> Iterator[tuple[int, str, bytes]]:
    """(text hash, model version, float16 vector) of a checkpoint."""
    yield from _rows(folder / "vectors.arrow")


def _folders(state_dir: Path) -> list[Path]:
    """Newest first."""
    return sorted((state_dir / "checkpoints").glob("[0-9]*"), reverse=True)


def _write_users(path: Path, checkpoint: Checkpoint) -> None:
    parts = (checkpoint.states, checkpoint.shown, checkpoint.waiting)
    users = list(dict.fromkeys(user for part in parts for user in part))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _USERS) as writer:
        for begin in range(0, len(users), _ROWS):
            some = users[begin : begin + _ROWS]
            names = pa.array([user.encode("utf-8", "surrogatepass") for user in some], pa.binary())
            columns = [pa.array([part.get(user) for user in some], pa.binary()) for part in parts]
            writer.write_batch(pa.record_batch([names, *columns], schema=_USERS))


def _write_vectors(path: Path, vectors: Mapping[int, tuple[str, bytes]]) -> None:
    rows = list(vectors.items())
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _VECTORS) as writer:
        for begin in range(0, len(rows), _ROWS):
            some = rows[begin : begin + _ROWS]
            columns = zip(*((text, *kept) for text, kept in some), strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _VECTORS, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=_VECTORS))


def _rows(path: Path) -> Iterator[tuple[Any, ...]]:
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _packed(checkpoint: Checkpoint) -> bytes:
    done = checkpoint.done
    packed: bytes = msgpack.packb(
        {
            "format": _FORMAT,
            "run_id": checkpoint.run_id,
            "job": checkpoint.job,
            "bundle": done.bundle,
            "cursor": done.cursor,
            "books": done.books,
            "trends": list(done.trends.items()),
            "newest": done.newest,
            "trends_from": done.trends_from,
            "lane": checkpoint.lane,
            "relist": sorted(checkpoint.relist),
            "replacing": checkpoint.replacing,
            "judged_to": checkpoint.newest,
        }
    )
    return packed


def _done(meta: Mapping[str, Any]) -> Done:
    trends = {TrendKey._make(key): TrendSum._make(total) for key, total in meta["trends"]}
    times = (meta["newest"], meta["trends_from"])
    return Done(meta["bundle"], _places(meta["cursor"]), Counter(meta["books"]), trends, *times)


def _places(rows: Mapping[str, tuple[Any, ...]]) -> dict[str, Place]:
    return {path: Place._make(row) for path, row in rows.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_other_job(checkpoint: Checkpoint, job: str, state_dir: Path) -> None:
    """Raises OutputError where a checkpoint was made by a job whose states mean something else."""
    if checkpoint.job != job:
        raise OutputError(
            f"{state_dir} holds the state of a job with another --format, cleaning, --user_id_key, "
            "--state_size or --model none; pass those of then, choose another --state_dir, or delete it "
            "to begin anew"
        )
