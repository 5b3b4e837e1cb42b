"""What a job is told, as one frozen value: made from flags at once, passed on in parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from models.cleaning import CleaningConfig
from models.ranking.config import IndexConfig, RankingConfig
from models.records import MICROS_PER_SECOND, Micros
from models.state import StateConfig
from pipeline.inputs.reading import InputFormat

IfExists = Literal["replace", "append", "error"]

IF_EXISTS: Final[tuple[IfExists, ...]] = ("replace", "append", "error")


@dataclass(frozen=True, slots=True)
class JobConfig:
    """One job. Transforms receive only the parts that they use."""

    inputs: tuple[str, ...]  # files, folders, globs, "-" for stdin, or URLs that Beam reads
    output: str  # folder of the tables
    items: tuple[str, ...] = ()  # the catalogue; none: what the feedback mentions
    k: int = 10  # places in a list
    form: InputFormat = field(default_factory=InputFormat)  # of feedback and items
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    state: StateConfig = field(default_factory=StateConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    ranking: RankingConfig = field(default_factory=RankingConfig)
    model: str | None = None  # folder of an exported model; None: the shipped one
    topics: str | None = None  # YAML of topics and intents; None: the shipped one
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    threads: int = 0  # of the encoder; 0: as many as there are cores
    accelerator: str = "nvidia-l4"  # Dataflow: the GPU of workers that score, where a provider needs one
    model_poll_seconds: float = 5.0  # how often a model's pointer file is looked at
    canary_model: str | None = None  # a model that reads a share of the texts too, and is compared
    canary_share: float = 0.05
    now: Micros | None = None  # ranking clock; None: the newest accepted event_time
    emit_history: bool = False  # one list per (user, window) besides, marked as hindsight
    history_window_seconds: int = 86_400
    trend_window_seconds: int = 86_400
    if_exists: IfExists = "replace"
    allowed_lateness_seconds: int | None = None  # None: the state's time to live
    snapshot_every_seconds: float = 10.0  # endless runs: rewrite recommendations_latest/
    reindex_every_seconds: float = 60.0  # endless runs: learn the item index anew; 0: never
    state_dir: str | None = None  # endless runs: checkpoints and spools; None: <output>/.state
    sinks: tuple[str, ...] = ()  # endless runs: URIs that rows go to besides the tables
    rerank_at_drain: bool = False  # endless runs: end with scores and lists of the final model and index

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("input: at least one is needed, got none")
        if not self.output:
            raise ValueError("output: a folder is needed, got none")
        positive = ("k", "history_window_seconds", "trend_window_seconds")
        for name in (*positive, "snapshot_every_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.reindex_every_seconds < 0:
            raise ValueError(f"reindex_every_seconds must not be negative, got {self.reindex_every_seconds}")
        if not 0 < self.canary_share <= 1:
            raise ValueError(f"canary_share must be above 0 and at most 1, got {self.canary_share}")
        if self.threads < 0:
            raise ValueError(f"threads must not be negative, got {self.threads}")
        if self.allowed_lateness_seconds is not None and self.allowed_lateness_seconds < 0:
            raise ValueError(
                f"allowed_lateness_seconds must not be negative, got {self.allowed_lateness_seconds}"
            )

    @property
    def allowed_lateness(self) -> Micros:
        """How old an event may be, in microseconds before the run's clock."""
        if self.allowed_lateness_seconds is None:
            return self.state.ttl_micros
        return self.allowed_lateness_seconds * MICROS_PER_SECOND
