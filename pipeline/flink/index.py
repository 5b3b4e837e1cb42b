"""The item index of a job on a cluster, learned from its log: `python -m pipeline.flink.index CONFIG_FILE`.

The states are Flink's, so what this machine can learn from is the log itself: the files that are
followed, read, scored and joined by the pure core. It costs what a bounded run over the log costs
without its lists, so it runs in a process of its own, at a lower priority. What is pulled cannot be read
a second time: there the tables teach it that the job has written so far.
"""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from models.errors import DeploymentError, InputError, LivelistError
from models.ranking.index import (
    IndexManifest,
    ItemIndex,
    build_index,
    publish_index,
    read_manifest,
    read_pointer,
)
from models.ranking.log import encode_log
from models.records import Item
from models.views import UserView
from pipeline.cluster.processes import end_with_parent
from pipeline.config import JobConfig
from pipeline.connectors.uris import is_connector
from pipeline.flink.behaviour import told_bytes, views_of_tables
from pipeline.history import load_history, score_texts, vectors_of
from pipeline.inputs.finding import followed_files
from pipeline.inputs.reading import read_items
from pipeline.tables.output_folder import local_path
from transforms.build_index import TextVector, item_text

_REST: Final = 4.0  # of the last rebuild's duration
#: A young job learns anew, besides, when its log has grown so much, but not sooner than so many seconds.
_GROWTH: Final = 1.5
_SOONEST_SECONDS: Final = 2.0
#: In the job's folder: the version of the index that it learned last.
LEARNED: Final = "LEARNED"
_NICENESS: Final = 5
_LOG: Final = logging.getLogger(__name__)


def learn_from_log(config: JobConfig, job_folder: Path | None = None) -> Path:
    """Publishes an index of all feedback so far, and returns the folder of the one that is published then.

    Without any it knows the catalogue only. An index that the job did not learn itself, which a bounded run
    left there, stays as long as it knows more than what the job has pulled. Raises LivelistError.
    """
    views, items, vectors, clock = _learned(config)
    root = local_path(config.output)
    build = root / "index" / f".build-{secrets.token_hex(6)}"
    try:
        made = build_index([encode_log(views)], items, vectors, config.index, clock, build)
        if learns_from_tables(config) and (other := _better(root, made, job_folder)) is not None:
            return other
        published = publish_index(root, build)
        if job_folder is not None:
            (job_folder / LEARNED).write_text(made.version)
        return published
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _better(root: Path, made: IndexManifest, job_folder: Path | None) -> Path | None:
    """The published index, where it is another's and knows more feedback and no fewer items than `made`."""
    published = read_pointer(root)
    learned = job_folder / LEARNED if job_folder is not None else None
    own = learned.read_text() if learned is not None and learned.exists() else ""
    if published is None or published.name == own:
        return None
    try:
        knows = read_manifest(published).meta
    except DeploymentError as error:
        _LOG.error("the published item index is damaged, and is learned anew: %s", error)
        return None
    less = made.meta["interactions"] < knows["interactions"] and made.meta["items"] <= knows["items"]
    return published if less or (knows["items"] and not made.meta["items"]) else None


def learns_from_tables(config: JobConfig) -> bool:
    """Whether what the job reads cannot be read a second time."""
    return any(map(is_connector, config.inputs))


def _learned(config: JobConfig) -> tuple[list[UserView], list[Item], list[TextVector], int]:
    views: list[UserView] = []
    clock = 0
    if learns_from_tables(config):
        views, clock = views_of_tables(config)
    else:
        try:
            history = load_history(config)
            return history.views(), history.items, history.vectors, history.clock
        except InputError:  # nothing accepted yet
            pass
    catalogue = read_items(config.items, config.form) if config.items else ()
    items = [item for item in catalogue if isinstance(item, Item)]
    scores = score_texts(config, map(item_text, items))
    return views, items, vectors_of(scores, items), clock


class IndexLearner:
    """Learns the index anew every --reindex_every_seconds, as long as the log grows.

    Sooner where it knows no item yet, whatever that flag says, where an item is new to it, and where the
    log of a young job has grown by half.
    """

    def __init__(self, config: JobConfig, config_file: Path, stop: threading.Event) -> None:
        self._config = config
        self._config_file = config_file
        self._stop = stop
        self._ended = time.monotonic()
        self._took = 0.0
        self._bytes = -1
        self._index: ItemIndex | None = None
        self._new: set[str] = set()  # items of feedback that the index does not know
        self._lock = threading.Lock()  # of what is new
        self._failed_last = False
        self.rebuilds = 0
        self.failures = 0
        self.error = ""

    def publish_first(self) -> None:
        """With --reindex_every_seconds 0, or without files, it is the one that is published, if one is.

        Raises LivelistError when that is not sound, or the log's cannot be built.
        """
        published = read_pointer(local_path(self._config.output))
        learns = self._config.reindex_every_seconds and log_bytes(self._config)
        if published is None or learns:
            # Here, for a process more would take longer to start than to learn.
            size = log_bytes(self._config)
            published = learn_from_log(self._config, self._config_file.parent)
            self.rebuilds, self._bytes = 1, size
        self._index = ItemIndex.open(published)

    def note(self, items: Iterable[str]) -> None:
        """Items that feedback was on; from another thread."""
        index = self._index
        if index is not None:
            with self._lock:
                self._new.update(item for item in items if index.find(item) < 0)

    def learn_if_due(self) -> None:
        """Learns, when it is time; what fails is logged and counted, and the old index serves on."""
        if self._is_due(log_bytes(self._config), time.monotonic() - self._ended) and not self._learn():
            _LOG.error("the item index was not learned anew, the old one serves on: %s", self.error)

    def _is_due(self, size: int, rested: float) -> bool:
        if size in (self._bytes, 0):
            return False
        if self._index is None or not self._index.items:
            return rested >= (max(_SOONEST_SECONDS, _REST * self._took) if self._failed_last else 0.0)
        every = self._config.reindex_every_seconds
        if not every or rested < max(_SOONEST_SECONDS, _REST * self._took):
            return False
        return rested >= every or bool(self._new) or size >= _GROWTH * self._bytes

    def _learn(self) -> bool:
        """One run of this module in a process of its own."""
        began, size = time.monotonic(), log_bytes(self._config)
        with self._lock:
            self._new.clear()  # what it does not learn of now, a retracted item say, it never will
        command = [sys.executable, "-m", __name__, str(self._config_file)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and not self._stop.wait(0.1):
            pass
        if process.poll() is None:
            process.kill()
        told = process.communicate()[1].strip().splitlines()
        self._ended, self._took = time.monotonic(), time.monotonic() - began
        self._failed_last = process.returncode != 0
        if self._failed_last:
            self.failures, self.error = self.failures + 1, told[-1] if told else "its process was ended"
            return False
        self.rebuilds, self._bytes = self.rebuilds + 1, size
        published = read_pointer(local_path(self._config.output))
        self._index = None if published is None else ItemIndex.open(published)
        return True


def log_bytes(config: JobConfig) -> int:
    """How long what the index is learned from is now: the files that are followed, or the job's tables."""
    if learns_from_tables(config):
        return told_bytes(local_path(config.output))
    total = 0
    for path in followed_files(config.inputs):
        try:
            total += os.path.getsize(path)
        except OSError:
            continue
    return total


def main(config_file: Path) -> int:
    """Learns once; the last line of standard error says why not."""
    end_with_parent()
    os.nice(_NICENESS)
    logging.getLogger().setLevel(logging.CRITICAL)
    try:
        _, config = pickle.loads(config_file.read_bytes())
        learn_from_log(config, config_file.parent)
        return 0
    except LivelistError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
