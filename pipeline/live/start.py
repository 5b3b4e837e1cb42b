"""How an endless run starts: what it takes up of the runs before it, and where it keeps what it takes in."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from models.errors import OutputError
from models.records import MICROS_PER_SECOND
from models.times import wall_clock
from pipeline.config import JobConfig
from pipeline.connectors.uris import is_connector
from pipeline.job import NO_MODEL
from pipeline.live.checkpoints import Checkpoint, newest_checkpoint, refuse_other_job
from pipeline.live.state import Done, LiveState
from pipeline.tables.output_folder import STREAM, IfExists, check_if_exists, local_path, unwritable
from pipeline.tables.reader import highest_version
from pipeline.tables.snapshots import drop_shards, take_snapshot
from transforms.live_store import LiveStore, put_store

STATE_FOLDER: Final = ".state"
_LOCK: Final = "LOCK"


def state_folder(config: JobConfig) -> Path:
    """Where the run keeps its checkpoints and spools."""
    return local_path(config.state_dir) if config.state_dir else local_path(config.output) / STATE_FOLDER


def streams_of(config: JobConfig) -> list[str]:
    """The inputs that are pulled, rather than followed."""
    return [given for given in config.inputs if is_connector(given)]


def files_of(config: JobConfig) -> list[str]:
    """The inputs that are followed."""
    return [given for given in config.inputs if not is_connector(given)]


def folder_of(root: Path, uri: str) -> Path:
    """A folder of its own for a source or sink: readable, and different for each URI."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", uri.partition("?")[0].rpartition("@")[2])[:60].strip("-")
    return root / f"{words}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"


def fingerprint(config: JobConfig) -> str:
    """Of all that the meaning of a state depends on; what ranks it may change from run to run."""
    told = (config.form, config.cleaning, config.state.max_events, config.model == NO_MODEL)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


@contextmanager
def sole_owner(state_dir: Path) -> Iterator[None]:
    """Holds a state folder for one run. Raises OutputError where another has it, or it cannot be written."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(state_dir / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(state_dir, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OutputError(
            f"another run keeps its state in {state_dir}; wait for its end or choose another --state_dir"
        ) from None
    finally:
        os.close(lock)


class TakenUp(NamedTuple):
    """What a run begins with."""

    checkpoint: Checkpoint | None
    if_exists: IfExists  # how its first snapshot treats the tables that stand


def take_up(config: JobConfig, run_id: str, state: LiveState) -> TakenUp:
    """Goes on from the newest checkpoint, if there is one; the tables then hold just what it holds.

    Call it when the output and the state folder are held. Raises OutputError.
    """
    output, state_dir = local_path(config.output), state_folder(config)
    for left in (state_dir / "checkpoints").glob(".*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    checkpoint = newest_checkpoint(state_dir)
    if checkpoint is not None:
        refuse_other_job(checkpoint, fingerprint(config), state_dir)
    highest, replaced = _settle_streams(output, checkpoint)
    store = LiveStore() if checkpoint is None else checkpoint.store()
    store.floor = max(highest, highest_version(str(output)))
    store.newest = min(store.newest, wall_clock())  # older releases let it run ahead
    put_store(run_id, store)
    beginning = Done(0, {}, Counter(), {}, 0, 0)
    window = config.trend_window_seconds * MICROS_PER_SECOND
    state.resume(beginning if checkpoint is None else checkpoint.done, window)
    if checkpoint is None:
        return TakenUp(None, check_if_exists(config.if_exists))
    return TakenUp(checkpoint, "replace" if checkpoint.replacing and not replaced else "append")


def _settle_streams(output: Path, checkpoint: Checkpoint | None) -> tuple[int, bool]:
    """Folds what killed runs had left up to the checkpoint.

    Returns the highest version in what will run again, and whether the tables were replaced.
    """
    bundle = 0 if checkpoint is None else checkpoint.done.bundle
    highest, replaced = 0, False
    for stream in sorted(output.glob(f"{STREAM}*")):
        run_id = stream.name.removeprefix(STREAM)
        highest = max(highest, drop_shards(stream, bundle))
        replacing = checkpoint is not None and checkpoint.replacing and not replaced
        folded = take_snapshot(output, run_id, if_exists="replace" if replacing else "append")
        replaced |= replacing and folded is not None
        shutil.rmtree(stream, ignore_errors=True)
    return highest, replaced
