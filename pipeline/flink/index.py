"""The item index of a job on a cluster, learned from its log: `python -m pipeline.flink.index CONFIG_FILE`.

The states are Flink's, so what this machine can learn from is the log itself: the files that are
followed, read, scored and joined by the pure core. It costs what a bounded run over the log costs
without its lists, so it runs in a process of its own, at a lower priority.
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
from dataclasses import replace
from pathlib import Path
from typing import Final

from models.errors import InputError, LivelistError
from models.ranking.index import ItemIndex, build_index, publish_index, read_pointer
from models.ranking.log import encode_log
from models.records import Item
from models.views import UserView
from pipeline.cluster.processes import end_with_parent
from pipeline.config import JobConfig
from pipeline.connectors.uris import is_connector
from pipeline.history import load_history, score_texts, vectors_of
from pipeline.inputs.finding import followed_files
from pipeline.inputs.reading import read_items
from pipeline.tables.output_folder import local_path
from transforms.build_index import TextVector, item_text

_REST: Final = 4.0  # of the last rebuild's duration
_NICENESS: Final = 5
_LOG: Final = logging.getLogger(__name__)


def learn_from_log(config: JobConfig) -> Path:
    """Publishes an index of all feedback that is in files, and returns its folder.

    Without any it knows the catalogue only. Raises LivelistError.
    """
    views, items, vectors, clock = _learned(config)
    root = local_path(config.output)
    build = root / "index" / f".build-{secrets.token_hex(6)}"
    try:
        build_index([encode_log(views)], items, vectors, config.index, clock, build)
        return publish_index(root, build)
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _learned(config: JobConfig) -> tuple[list[UserView], list[Item], list[TextVector], int]:
    files = tuple(part for part in config.inputs if not is_connector(part))
    try:
        if not files:
            raise InputError("what is pulled cannot be read a second time")
        history = load_history(replace(config, inputs=files))
        return history.views(), history.items, history.vectors, history.clock
    except InputError:  # nothing accepted yet
        catalogue = read_items(config.items, config.form) if config.items else ()
        items = [item for item in catalogue if isinstance(item, Item)]
        scores = score_texts(config, map(item_text, items))
        return [], items, vectors_of(scores, items), 0


class IndexLearner:
    """Learns the index anew every --reindex_every_seconds, as long as the log grows."""

    def __init__(self, config: JobConfig, config_file: Path, stop: threading.Event) -> None:
        self._config = config
        self._config_file = config_file
        self._stop = stop
        self._ended = time.monotonic()
        self._took = 0.0
        self._bytes = -1
        self.rebuilds = 0
        self.failures = 0
        self.error = ""

    def publish_first(self) -> None:
        """With --reindex_every_seconds 0, or without files, it is the one that is published, if one is.

        Raises LivelistError when that is not sound, or the log's cannot be built.
        """
        published = read_pointer(local_path(self._config.output))
        learns = self._config.reindex_every_seconds and log_bytes(self._config)
        if published is not None and not learns:
            ItemIndex.open(published)
            return
        learn_from_log(self._config)  # here, for a process more would take longer to start than to learn
        self.rebuilds, self._bytes = 1, log_bytes(self._config)

    def learn_if_due(self) -> None:
        """Learns, when it is time; what fails is logged and counted, and the old index serves on."""
        rest = max(self._config.reindex_every_seconds, _REST * self._took)
        due = self._config.reindex_every_seconds and time.monotonic() - self._ended >= rest
        if due and log_bytes(self._config) != self._bytes and not self._learn():
            _LOG.error("the item index was not learned anew, the old one serves on: %s", self.error)

    def _learn(self) -> bool:
        """One run of this module in a process of its own."""
        began, size = time.monotonic(), log_bytes(self._config)
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
        if process.returncode:
            self.failures, self.error = self.failures + 1, told[-1] if told else "its process was ended"
            return False
        self.rebuilds, self._bytes = self.rebuilds + 1, size
        return True


def log_bytes(config: JobConfig) -> int:
    """How long the files that are followed are now."""
    total = 0
    for path in followed_files([part for part in config.inputs if not is_connector(part)]):
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
        learn_from_log(config)
        return 0
    except LivelistError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
