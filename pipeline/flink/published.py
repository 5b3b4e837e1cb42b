"""Watches what is published for a job on a cluster, and tells what its workers refuse.

Workers follow the pointers of index and model by themselves, and only log what is not sound. The
steward of the job opens the same artefacts, once for each version, and tells people.
"""

from __future__ import annotations

import json
import time
from typing import Final

from models.encoder.scorer import TextScorer
from models.encoder.serving import ServingConfig, published_version
from models.errors import DeploymentError
from models.pointer import read_pointer
from models.ranking.index import ItemIndex
from models.ranking.index import read_pointer as read_index_pointer
from models.tables import AlertRow
from models.times import wall_clock
from pipeline.config import JobConfig
from pipeline.job import scoring_step
from pipeline.tables.output_folder import local_path

#: What was refused is looked at again so often, for it may have been half a copy.
_AGAIN_SECONDS: Final = 5.0


class Published:
    """Of one job; one thread calls `look`. What is published at first is sound: the job started with it."""

    def __init__(self, config: JobConfig) -> None:
        self._output = local_path(config.output)
        self._serving: ServingConfig | None = scoring_step(config).serving()
        folder = read_index_pointer(self._output)
        self.index = "" if folder is None else folder.name
        self.model = "" if self._serving is None else published_version(self._serving.model)
        self._refused: dict[str, tuple[str, str]] = {}  # kind -> version and reason that were told
        self._looked = 0.0

    def look(self) -> list[AlertRow]:
        """The alerts of versions that are not sound; each is told once."""
        if time.monotonic() - self._looked < _AGAIN_SECONDS:
            return []
        self._looked = time.monotonic()
        return [*self._look_at_index(), *self._look_at_model()]

    def _look_at_index(self) -> list[AlertRow]:
        named = ""
        try:
            folder = read_index_pointer(self._output)
            named = "" if folder is None else folder.name
            if folder is None or named == self.index:
                return []
            ItemIndex.open(folder)
        except (DeploymentError, OSError, ValueError) as error:
            return self._refuse("index_refused", named, self.index, str(error), "index")
        self.index = named
        return []

    def _look_at_model(self) -> list[AlertRow]:
        if self._serving is None:
            return []
        named = ""
        try:
            folder = read_pointer(self._serving.path)
            named = "" if folder is None else folder.name
            if folder is None or named == self.model:
                return []
            scorer = TextScorer.load(folder, self._serving.topics, threads=1)
            if scorer.model_version != named:
                raise DeploymentError(f"{folder} holds version {scorer.model_version}; publish it again")
        except (DeploymentError, OSError, ValueError) as error:
            return self._refuse("model_refused", named, self.model, str(error), named)
        self.model = named
        return []

    def _refuse(self, kind: str, version: str, serving: str, why: str, subject: str) -> list[AlertRow]:
        if self._refused.get(kind) == (version, why):
            return []
        self._refused[kind] = version, why
        return [AlertRow(kind, "job", subject, wall_clock(), json.dumps({"serving": serving, "why": why}))]
