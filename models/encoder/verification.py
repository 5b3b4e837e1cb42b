"""Whether an artefact may serve: every check that a job makes of it, and the slow ones, one by one."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from models.encoder.artefact import load_artefact
from models.encoder.scorer import ScoringFailure, TextScorer
from models.encoder.session import CPU_PROVIDERS
from models.errors import DeploymentError
from models.pointer import read_pointer
from models.records import ScoredText

#: How far a result may move with what stands beside it.
TOLERANCE: Final = 1e-6
SHUFFLES: Final = 3
#: Short and long, both languages, nothing known, markup, repeats: what stands in a log.
TEXTS: Final = (
    "good", "bad", "terrible", "The zipper broke after a day.", "I love it, it fits!", "很好",
    "质量很差，第一天就坏了", "屏幕很好 but the battery 不行", "Der Reißverschluss ist kaputt", "😀😀", "123",
    "and so on " * 400, "a" * 5000, "It is ok. " * 20, "great value " * 30, "\x00\x01", "<b>fine</b>",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, what was found, and whether that is right."""

    name: str
    sound: bool
    found: str


def verify_model(path: str | Path, providers: Sequence[str] = CPU_PROVIDERS) -> Iterator[Check]:
    """The checks of an artefact, or of the one that a pointer file names; the first that fails ends it."""
    folder = read_pointer(Path(path)) or Path(path)
    try:
        artefact = load_artefact(folder)
        yield Check("files", True, f"hashes match, version {artefact.version}, no external data")
        began = time.perf_counter()
        scorer = TextScorer(folder, providers, threads=1)
        seconds = time.perf_counter() - began
    except DeploymentError as error:
        yield Check("loading", False, str(error))
        return
    yield Check("loading", True, f"{', '.join(artefact.contract.inputs)} -> {artefact.contract.widths()}")
    yield Check("probes", True, _probes_found(len(artefact.probes)))
    yield _reads(scorer)
    yield _invariance(scorer)
    yield Check("cold load", True, f"{seconds:.2f} s")


def _probes_found(count: int) -> str:
    return f"{count} give what they gave at the export" if count else "none stored: an artefact of format 1"


def _reads(scorer: TextScorer) -> Check:
    """Every text has a result, and each within its range."""
    results = scorer.score(TEXTS)
    failed = [r.reason for r in results if isinstance(r, ScoringFailure)]
    scores = [r.score for r in results if isinstance(r, ScoredText)]
    bounded = [(abs(s.polarity), s.intensity, s.confidence) for s in scores]
    outside = sum(not all(0 <= value <= 1 for value in values) for values in bounded)
    if failed or outside:
        found = f"{len(failed)} of {len(TEXTS)} texts fail {failed[:1]}, {outside} are out of range"
        return Check("reads", False, found)
    return Check("reads", True, f"{len(TEXTS)} texts of every kind are scored")


def _invariance(scorer: TextScorer) -> Check:
    """The same embeddings whatever stands beside a text."""
    alone = np.stack([scorer.embed([text])[0] for text in TEXTS])
    moved = 0.0
    for seed in range(SHUFFLES):
        order = random.Random(seed).sample(range(len(TEXTS)), len(TEXTS))
        together = scorer.embed([TEXTS[i] for i in order])
        moved = max(moved, float(np.abs(together - alone[order]).max()))
    found = f"a text's neighbours move its embedding by at most {moved:.1e}, {TOLERANCE:.0e} is allowed"
    return Check("neighbours", moved <= TOLERANCE, found)
