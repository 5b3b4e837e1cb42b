"""The scorers of a job: they follow a pointer to newer artefacts, and compare a canary on a share."""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from models.encoder.artefact import DEFAULT_MODEL_PATH, Artefact, read_manifest
from models.encoder.scorer import BatchStatistics, ScoringResult, TextScorer
from models.encoder.session import CPU_PROVIDERS
from models.errors import DeploymentError
from models.pointer import read_pointer
from models.records import ScoredText

#: The `model` of a configuration that means the model that ships with the project, wherever it is installed.
SHIPPED: Final = "default"
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """Which model scores, and how. Picklable: workers make their scorers from it."""

    model: str = SHIPPED  # an artefact's folder, a folder with a pointer file, or "default"
    topics: str | None = None  # None: the packaged catalogue
    providers: tuple[str, ...] = CPU_PROVIDERS
    threads: int = 0  # 0: one a core
    poll_seconds: float = 5.0  # how often the pointer is read, at most
    canary_model: str | None = None  # as `model`
    canary_share: float = 0.05  # of the distinct texts, chosen by their hash

    def __post_init__(self) -> None:
        if not 0 < self.canary_share <= 1:
            raise ValueError(f"canary_share must be above 0 and at most 1, got {self.canary_share}")
        if self.poll_seconds < 0:
            raise ValueError(f"poll_seconds must not be negative, got {self.poll_seconds}")

    @property
    def path(self) -> Path:
        """The folder that `model` means."""
        return _folder(self.model)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A published artefact that was not used; the one before it serves on."""

    version: str  # as published
    serving: str  # the version that serves on
    reason: str
    time: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class CanaryComparison:
    """What two models gave for the same texts, summed; adds over batches."""

    serving: str  # model versions
    canary: str
    texts: int = 0  # scored by both
    agreed: int = 0  # polarity on the same side of 0
    polarity_delta: float = 0.0  # sum of |difference|
    serving_seconds: float = 0.0
    canary_seconds: float = 0.0
    canary_failures: int = 0

    def plus(self, other: CanaryComparison) -> CanaryComparison:
        """Both together; another pair of versions begins anew."""
        if (self.serving, self.canary) != (other.serving, other.canary):
            return other
        names = ("texts", "agreed", "polarity_delta", "serving_seconds", "canary_seconds", "canary_failures")
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in names})

    def summary(self) -> dict[str, float]:
        """Shares and ratios; what has no denominator is left out."""
        figures = {"texts": float(self.texts), "failures": float(self.canary_failures)}
        if self.texts:
            figures["agreement"] = self.agreed / self.texts
            figures["mean_abs_polarity_delta"] = self.polarity_delta / self.texts
        if self.serving_seconds > 0:
            figures["latency_ratio"] = self.canary_seconds / self.serving_seconds
        return figures


@dataclass(frozen=True, slots=True)
class Served:
    """One batch of results; all carry the same model version."""

    results: list[ScoringResult]
    statistics: BatchStatistics
    version: str
    canary: CanaryComparison | None  # None without a canary, or where it read none of the texts
    refusals: tuple[Refusal, ...]  # since the last batch


class ScorerPool:
    """Scores with the newest sound artefact. Safe to call from many threads.

    A batch is scored by one version from its first text to its last. A new version is loaded and verified
    beside the old one, which serves until then, and stays when the new one is not sound.
    """

    def __init__(self, config: ServingConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises DeploymentError when the model or the canary is not sound: a job starts with both."""
        self._config, self._clock = config, clock
        self._scorer = _load(config, config.path)
        self._canary = None
        if config.canary_model is not None:
            self._canary = _load(config, _folder(config.canary_model))
        self._polled = clock()
        self._answered = 0  # texts, by versions that serve no more
        self._refusals: list[Refusal] = []
        self._untold: list[Refusal] = []
        self._compared: CanaryComparison | None = None
        self._swaps = 0
        self._polling, self._noting = threading.Lock(), threading.Lock()

    @property
    def scorer(self) -> TextScorer:
        """The scorer of the version that serves now, without looking for a newer one."""
        return self._scorer

    @property
    def artefact(self) -> Artefact:
        """That serves now."""
        return self._scorer.artefact

    @property
    def swaps(self) -> int:
        """How often a newer version took over."""
        return self._swaps

    @property
    def texts(self) -> int:
        """About how many were answered so far by every version, repeats included; for displays."""
        return self._answered + self._scorer.texts

    def refusals(self) -> list[Refusal]:
        """Every artefact that was published and not used, oldest first: what an operator is to be told."""
        return list(self._refusals)

    def canary(self) -> CanaryComparison | None:
        """The comparison with the canary so far."""
        return self._compared

    def score(self, texts: Sequence[str]) -> Served:
        """Scores a batch, after a look at the pointer when that is due."""
        self.poll()
        scorer = self._scorer
        results, statistics = scorer.score_batch(texts)
        compared = self._compare(scorer, texts, results, statistics)
        with self._noting:
            untold, self._untold = tuple(self._untold), []
        return Served(results, statistics, scorer.model_version, compared, untold)

    def newest_version(self) -> str:
        """Of the artefact that serves, after a look for a newer one."""
        self.poll(now=True)
        return self._scorer.model_version

    def poll(self, now: bool = False) -> bool:
        """Takes up a newer artefact, if the pointer names one and it is time to look; whether it did.

        Other callers score on with the old one meanwhile. What was refused is tried again at the next look,
        for it may have been half a copy.
        """
        due = now or self._clock() - self._polled >= self._config.poll_seconds
        if not due or not self._polling.acquire(blocking=now):
            return False
        try:
            self._polled = self._clock()
            return self._take_up_newer()
        finally:
            self._polling.release()

    def _take_up_newer(self) -> bool:
        named = ""
        try:
            target = read_pointer(self._config.path)
            if target is None or target.name == self._scorer.model_version:
                return False
            named = target.name
            scorer = _load(self._config, target)
            if scorer.model_version != named:
                raise DeploymentError(f"{target} holds version {scorer.model_version}; publish it again")
        except (DeploymentError, OSError, ValueError) as error:
            self._refuse(named, str(error))
            return False
        _LOG.info("model %s takes over from %s", scorer.model_version, self._scorer.model_version)
        self._answered += self._scorer.texts
        self._scorer = scorer
        self._swaps += 1
        return True

    def _refuse(self, version: str, reason: str) -> None:
        refusal = Refusal(version, self._scorer.model_version, reason, time.time())
        if self._refusals and replace(self._refusals[-1], time=refusal.time) == refusal:
            return  # told already
        _LOG.error("the published model %s is refused, %s serves on: %s", version, refusal.serving, reason)
        with self._noting:
            self._refusals.append(refusal)
            self._untold.append(refusal)

    def _compare(
        self,
        scorer: TextScorer,
        texts: Sequence[str],
        results: Sequence[ScoringResult],
        statistics: BatchStatistics,
    ) -> CanaryComparison | None:
        if self._canary is None:
            return None
        share = self._config.canary_share
        scored = {t: r for t, r in zip(texts, results, strict=True) if isinstance(r, ScoredText)}
        chosen = {text: result for text, result in scored.items() if is_canary(text, share)}
        if not chosen:
            return None
        found, canary = self._canary.score_batch(list(chosen))
        compared = compare_results(list(chosen.values()), found)
        compared = replace(
            compared,
            serving=scorer.model_version,
            canary=self._canary.model_version,
            serving_seconds=_seconds_a_text(statistics) * len(chosen),
            canary_seconds=_seconds_a_text(canary) * len(chosen),
        )
        with self._noting:
            self._compared = compared if self._compared is None else self._compared.plus(compared)
        return compared


def compare_results(serving: Sequence[ScoringResult], canary: Sequence[ScoringResult]) -> CanaryComparison:
    """How far two models agree on the same texts; without versions and seconds."""
    pairs = [
        (a.score.polarity, b.score.polarity)
        for a, b in zip(serving, canary, strict=True)
        if isinstance(a, ScoredText) and isinstance(b, ScoredText)
    ]
    polarity = np.array(pairs, np.float64).reshape(-1, 2)
    return CanaryComparison(
        serving="",
        canary="",
        texts=len(pairs),
        agreed=int((np.sign(polarity[:, 0]) == np.sign(polarity[:, 1])).sum()),
        polarity_delta=float(np.abs(polarity[:, 0] - polarity[:, 1]).sum()),
        canary_failures=len(canary) - len(pairs),
    )


def is_canary(text: str, share: float) -> bool:
    """Whether a text is among the share that the canary reads too; a retry repeats the choice."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) < share * 2**32


def _seconds_a_text(statistics: BatchStatistics) -> float:
    return statistics.seconds / statistics.encoded if statistics.encoded else 0.0


def published_version(model: str) -> str:
    """What the manifest of a model's folder, or of the one that its pointer names, says; nothing is verified.

    Raises DeploymentError where there is no model.
    """
    folder = _folder(model)
    return str(read_manifest(read_pointer(folder) or folder).get("version"))


def _folder(model: str) -> Path:
    return DEFAULT_MODEL_PATH if model == SHIPPED else Path(model)


def _load(config: ServingConfig, path: Path) -> TextScorer:
    return TextScorer.load(path, config.topics, config.providers, config.threads)


_pools: dict[ServingConfig, ScorerPool] = {}
_pools_lock = threading.Lock()


def shared_pool(config: ServingConfig) -> ScorerPool:
    """The process's scorers of one configuration, with their cache of recent texts, loaded once."""
    with _pools_lock:
        pool = _pools.get(config)
        if pool is None or _is_replaced(config, pool):
            pool = _pools[config] = ScorerPool(config)
        return pool


def _is_replaced(config: ServingConfig, pool: ScorerPool) -> bool:
    """Whether a folder without a pointer holds another artefact than when it was loaded."""
    if read_pointer(config.path) is not None:
        return False
    return read_manifest(config.path).get("version") != pool.scorer.model_version
