"""The item index of an endless run: learned from everybody's state by the pure core, again and again.

A process of its own does it, at a lower priority, so that lists do not wait for it. It reads the
states and the vectors of texts from a checkpoint that is taken for it, never the log, and holds the
scores of the catalogue's texts. It rests four times as long as the last rebuild took, whatever
--reindex_every_seconds says.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from models.accounting import INPUT
from models.errors import DeploymentError
from models.ranking.index import ItemIndex, build_index, publish_index, read_pointer
from models.ranking.log import encode_log
from models.records import Item, ScoredText
from models.state import UserState
from models.views import accepted_events, view_events
from pipeline import heap
from pipeline.config import JobConfig
from pipeline.history import KnownScores, score_texts, vectors_of
from pipeline.inputs.reading import read_items
from pipeline.job import view_policy
from pipeline.live.checkpoints import read_states, read_vectors
from pipeline.live.state import LiveState
from pipeline.live.told import told_error
from transforms.build_index import TextVector, item_text, owned_vectors

_REST: Final = 4.0  # of the last rebuild's duration
#: A young job learns anew, besides, when so much more has come in, but not sooner than so many seconds.
_GROWTH: Final = 1.5
_SOONEST_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.2
_NICENESS: Final = 5
_START: Final = """
import logging, sys
logging.getLogger().setLevel(logging.CRITICAL)  # its failures are answers; the rest is third parties'
from multiprocessing.connection import Connection
from pipeline.live.reindex import serve_rebuilds
serve_rebuilds(Connection(int(sys.argv[1])))
"""
_LOG: Final = logging.getLogger(__name__)


class Rebuilt(NamedTuple):
    """What one rebuild came to."""

    version: str  # of the published index; empty when it failed
    items: int
    seconds: float
    error: str = ""


def rebuild_index(config: JobConfig, checkpoint: Path | None, known: KnownScores | None = None) -> Path:
    """Learns the index of everybody's state in a checkpoint, publishes it, and returns its folder.

    Without a checkpoint it knows the catalogue only. `known` are texts of the catalogue that were
    scored before; the others are added to it. Raises LivelistError.
    """
    states = {} if checkpoint is None else _states(checkpoint)
    policy, ttl = view_policy(config), config.state.ttl_micros
    clock = max((time for state in states.values() for time, _ in state.events), default=0)
    views = [
        view_events(user_id, accepted_events(states[user_id], policy, clock, ttl), policy)
        for user_id in sorted(states)
    ]
    catalogue = read_items(config.items, config.form) if config.items else ()
    items = [item for item in catalogue if isinstance(item, Item)]
    scores = score_texts(config, map(item_text, items), known)
    scored_by = next((one.score.model_version for one in scores.values() if isinstance(one, ScoredText)), "")
    vectors = vectors_of(scores, items)
    if checkpoint is not None:
        vectors += owned_vectors(_of_one_model(read_vectors(checkpoint), scored_by), items)
    build = Path(config.output) / "index" / f".build-{secrets.token_hex(6)}"
    try:
        build_index([encode_log(views)], items, vectors, config.index, clock, build)
        return publish_index(Path(config.output), build)
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _of_one_model(vectors: Iterable[TextVector], version: str) -> list[TextVector]:
    """Those of one model, by default the newest: vectors of two have nothing in common."""
    kept = list(vectors)
    version = version or (kept[-1][1] if kept else "")
    return [vector for vector in kept if vector[1] == version]


def _states(checkpoint: Path) -> dict[str, UserState]:
    decoded = ((user_id, UserState.decode(state)) for user_id, state in read_states(checkpoint))
    return {user_id: state for user_id, state in decoded if state.events}


class Reindexer(AbstractContextManager["Reindexer"]):
    """Rebuilds the index while a run goes on. What fails is logged and counted, and tried again later.

    `take` makes a checkpoint of this moment, in a folder that is ours. Feedback on an item that is not
    in the index makes a rebuild due at once, but for the rest that the last one earned.
    """

    def __init__(self, config: JobConfig, take: Callable[[], Path | None], state: LiveState) -> None:
        self._config = config
        self._take = take
        self._state = state
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reindex", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this one lives
        self._connection: Connection | None = None
        self._learned = 0  # events, at the last rebuild
        self._failed_last = False
        self._ended = 0.0
        self.rebuilds = 0
        self.failures = 0
        self.error = "the run ended"  # of the last failure
        self.last: Rebuilt | None = None

    @property
    def knows_items(self) -> bool:
        """Whether the index that serves has something to list."""
        return self.last is not None and self.last.items > 0

    @property
    def settled(self) -> bool:
        """Whether what came in so far can change nothing about that, or the index cannot be built."""
        return self.knows_items or self._events() <= self._learned or self._failed_last

    def publish_first(self, restarted: bool) -> None:
        """Returns when an index is published: one that knows the catalogue only, until states are there.

        With --reindex_every_seconds 0, and after a restart, it is the one that is published already,
        if one is. Raises LivelistError when that is not sound, or none can be built.
        """
        _clear_builds(self._config)
        published = read_pointer(Path(self._config.output))
        if published is not None and (restarted or not self._config.reindex_every_seconds):
            self._take_published(published)
        if self.last is None:  # here: the other process takes its time to start
            began = time.monotonic()
            index = ItemIndex.open(rebuild_index(self._config, None))
            self.last = Rebuilt(index.version, index.items, time.monotonic() - began)
            self.rebuilds += 1

    def _take_published(self, published: Path) -> None:
        try:
            self.last = Rebuilt(published.name, ItemIndex.open(published).items, 0.0)
            self._note(published)
        except DeploymentError as error:
            if not self._config.reindex_every_seconds:
                raise
            _LOG.error("the published item index is damaged, and is learned anew: %s", error)

    def __enter__(self) -> Reindexer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._end_process()
        self._said.close()

    def _run(self) -> None:
        while not self._closing.wait(_POLL_SECONDS):
            try:
                if self._due() and (checkpoint := self._take()) is not None:
                    self._rebuild(checkpoint)
                if not self._config.reindex_every_seconds and self.knows_items:
                    self._end_process()
                    return
            except Exception as error:  # whatever it is, the job goes on with the index that it has
                self._failed(told_error(error))

    def _due(self) -> bool:
        rested = time.monotonic() - self._ended
        took = self.last.seconds if self.last else 0.0
        events = self._events()
        if not self.knows_items:
            return events > self._learned and rested > _SOONEST_SECONDS * self._failed_last
        if not self._config.reindex_every_seconds or rested < max(_SOONEST_SECONDS, _REST * took):
            return False
        if rested >= self._config.reindex_every_seconds:
            return events != self._learned
        return bool(self._state.new_items) or events >= _GROWTH * self._learned

    def _events(self) -> int:
        """Records that the states have taken in."""
        return self._state.books()[INPUT]

    def _note(self, published: Path) -> None:
        index = ItemIndex.open(published)
        self._state.learned(index.item_ids[place] for place in range(index.items))

    def _rebuild(self, checkpoint: Path) -> Rebuilt | None:
        """One rebuild in the other process; None when it failed."""
        events = self._events()
        try:
            rebuilt = self._ask(checkpoint)
        except (EOFError, OSError) as error:
            rebuilt = Rebuilt("", 0, 0.0, f"its process ended ({error!r}){self._last_words()}")
            self._end_process()
        finally:
            shutil.rmtree(checkpoint, ignore_errors=True)
        self._ended = time.monotonic()
        if rebuilt is None:
            return None
        if rebuilt.error:
            self._failed(rebuilt.error)
            return None
        self.last, self._learned, self._failed_last = rebuilt, events, False
        self._note(Path(self._config.output) / "index" / rebuilt.version)
        self.rebuilds += 1
        told = "the item index %s is published: %d items, learned in %.1f s"
        _LOG.info(told, rebuilt.version, rebuilt.items, rebuilt.seconds)
        return rebuilt

    def _ask(self, checkpoint: Path) -> Rebuilt | None:
        """The answer of the process; None when the run ends first."""
        if self._connection is None:
            self._start_process()
        assert self._connection is not None
        self._connection.send(checkpoint)
        while not self._connection.poll(0.1):
            if self._closing.is_set():
                return None
        answer = self._connection.recv()
        assert isinstance(answer, Rebuilt)
        return answer

    def _last_words(self) -> str:
        """The last line that the process wrote of itself, behind a colon."""
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        return next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")

    def _start_process(self) -> None:
        # Not multiprocessing's own start: that would run the launcher's script a second time.
        ours, theirs = multiprocessing.Pipe()
        here = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,  # not among our lines
            # A Ctrl-C is for the job, which drains with it. Not a session of its own: Linux may share
            # processors out by sessions, and then niceness would count for nothing.
            process_group=0,
        )
        theirs.close()
        self._connection = ours
        ours.send(self._config)

    def _end_process(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()  # what it was building is not published
            self._process.wait()
            _clear_builds(self._config)
        self._process = self._connection = None

    def _failed(self, error: str) -> None:
        self.failures += 1
        self._failed_last = True
        self.error = error
        _LOG.error("the item index was not rebuilt, the old one serves on: %s", error)


def _clear_builds(config: JobConfig) -> None:
    """Deletes what was being built when a process was killed; the folder is ours while a run goes on."""
    for left in (Path(config.output) / "index").glob(".*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def serve_rebuilds(connection: Connection) -> None:
    """The process: the job's configuration, then one rebuild for each message, until its parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the parent, which ends this process
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    logging.getLogger().setLevel(logging.ERROR)
    heap.keep_small()
    known: KnownScores = {}
    try:
        config: JobConfig = connection.recv()
        while True:
            checkpoint: Path = connection.recv()
            connection.send(_served(config, checkpoint, known))
            heap.give_back()  # it rests longer than it works
    except (EOFError, OSError):
        return


def _served(config: JobConfig, checkpoint: Path, known: KnownScores) -> Rebuilt:
    began = time.monotonic()
    try:
        index = ItemIndex.open(rebuild_index(config, checkpoint, known))
    except Exception as error:
        return Rebuilt("", 0, time.monotonic() - began, told_error(error))
    return Rebuilt(index.version, index.items, time.monotonic() - began)
