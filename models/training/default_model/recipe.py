"""What the default model learns, from which texts, how often and at which pace."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.export.checkpoint import pretrained_folder
from models.training.default_model.corpora import NEUTRAL, POSITIVE, Example
from models.training.default_model.glossary import gloss, teach_characters
from models.training.default_model.phrases import dictionary_texts, made_up_texts
from models.training.device import default_device, has_bf16
from models.training.network import Base, FeedbackModel, embed_texts, load_base
from models.training.settings import Settings
from models.training.tasks import INTENSITY, SENTIMENT, Floats, LabelledTexts, Task
from models.training.trainer import Trainer

CATEGORY: Final = "category"
LABELS: Final = ("negative", "neutral", "positive")
TRAINED_TOKENS: Final = 96
SEED: Final = 0

#: How often each training text is seen an epoch; a fraction keeps that share. Sets not named: once.
REPEATS: Final[Mapping[str, float]] = {
    "made_up": 3, "written_en": 4, "written_zh": 4, "sst": 2, "cr": 1.5, "clinc150": 0.25, "banking77": 0.25,
    "subj_plots": 0.6, "trec": 0.4,
    "clothing": 0.7, "clothing_titles": 0.6, "instruments": 0.5, "amazon_summaries": 0.5,
}  # fmt: skip
#: Sets most of whose texts are positive: at most so many positive ones for each other one.
MOST_POSITIVE: Final = 2.0
#: A set with two classes says little of the third; this much of its texts' target goes to neutral.
NEUTRAL_SHARE: Final = 0.04


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model to be trained, its texts and its pace."""

    base: Base
    model: FeedbackModel
    train: LabelledTexts
    validation: LabelledTexts
    settings: Settings


def make_settings(steps: int) -> Settings:
    """The pace that was found best; `steps` of 32 texts."""
    return Settings(
        max_steps=steps, batch_size=32, rate=1.5e-4, head_rate=1e-3, new_rows_rate=2e-3,
        warm_up=0.05, label_smoothing=0.03, max_length=TRAINED_TOKENS, evaluate_every=1000, keep_best=False,
        save_every=500, hold_embedding=2.0, edits=0.02, seed=SEED,
    )  # fmt: skip


def make_recipe(examples: Sequence[Example], steps: int, cache: Path) -> Recipe:
    """Everything that training needs; the embeddings to hold to are kept in `cache`."""
    base = load_base(pretrained_folder())
    known = [e for e in examples if e.fold == "train"] + made_up_texts(SEED) + dictionary_texts()
    train = repeat(known, SEED)
    validation = [e for e in examples if e.fold == "dev" and e.corpus not in ("clinc150", "trec")]
    wanted = wanted_embeddings(base, train, cache)
    teach_characters(base, SEED)
    categories = tuple(sorted({e.topic for e in known if e.language == "zh" and e.topic}))
    model = FeedbackModel(base.encoder, make_tasks(categories))
    tokenizer = base.tokenizer(TRAINED_TOKENS)
    return Recipe(
        base,
        model,
        labelled(train, categories).with_embeddings(wanted).encode(tokenizer),
        labelled(validation, categories).encode(tokenizer),
        make_settings(steps),
    )


def make_tasks(categories: Sequence[str]) -> tuple[Task, ...]:
    """Sentiment and intensity read [CLS]; the category keeps what Chinese is about in the mean pool."""
    tasks = (Task(SENTIMENT, "classes", LABELS), Task(INTENSITY, "number", loss_weight=2.0))
    if len(categories) < 2:
        return tasks
    return (*tasks, Task(CATEGORY, "classes", tuple(categories), features=("mean",), loss_weight=0.3))


def repeat(examples: Sequence[Example], seed: int) -> list[Example]:
    """The texts of one epoch."""
    random = np.random.default_rng(seed)
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.corpus, []).append(example)
    chosen: list[Example] = []
    for corpus, group in sorted(groups.items()):
        group = temper_positive(group, random)
        whole, part = divmod(REPEATS.get(corpus, 1.0), 1.0)
        chosen += group * int(whole)
        chosen += [group[i] for i in sorted(random.permutation(len(group))[: round(part * len(group))])]
    return chosen


def temper_positive(group: list[Example], random: np.random.Generator) -> list[Example]:
    """The set with at most `MOST_POSITIVE` positive texts for each other one."""
    positive = [e for e in group if e.sentiment == POSITIVE]
    others = [e for e in group if e.sentiment != POSITIVE]
    kept = int(MOST_POSITIVE * len(others))
    if not others or kept >= len(positive):
        return group
    return others + [positive[i] for i in sorted(random.permutation(len(positive))[:kept])]


def labelled(examples: Sequence[Example], categories: Sequence[str]) -> LabelledTexts:
    """Targets of every task; NaN where a set does not say."""
    targets = {
        SENTIMENT: np.stack([sentiment_target(e) for e in examples]),
        INTENSITY: np.array([[np.nan if e.intensity is None else e.intensity] for e in examples], np.float32),
    }
    if len(categories) > 1:
        place = {name: i for i, name in enumerate(categories)}
        rows = np.full((len(examples), len(place)), np.nan, np.float32)
        for row, example in zip(rows, examples, strict=True):
            if example.topic in place:
                row[:] = 0
                row[place[example.topic]] = 1
        targets[CATEGORY] = rows
    return LabelledTexts([e.text for e in examples], targets, sets=[e.corpus for e in examples])


def sentiment_target(example: Example) -> Floats:
    """Probabilities of negative, neutral, positive, shape (3,); NaN when unknown."""
    if example.sentiment is None:
        return np.full(3, np.nan, np.float32)
    target = np.zeros(3, np.float32)
    target[example.sentiment] = 1
    if example.sided:
        target = (1 - NEUTRAL_SHARE) * target
        target[NEUTRAL] += NEUTRAL_SHARE
    return target


def wanted_embeddings(base: Base, examples: Sequence[Example], cache: Path) -> Floats:
    """Unit embeddings (texts, hidden) by the encoder as it was: of English as it is, of Chinese its gloss."""
    texts = [gloss(e.text) if e.language == "zh" else e.text for e in examples]
    keys = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
    stored = _read_cache(cache)
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in stored}
    if missing:
        say(f"embedding {len(missing):,} texts with the encoder as it was")
        rows = embed_texts(base, list(missing.values()), TRAINED_TOKENS, bf16=has_bf16(default_device()))
        stored |= dict(zip(missing, rows.astype(np.float16), strict=True))
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, keys=np.array(list(stored), np.uint64), rows=np.stack(list(stored.values())))
    return np.stack([stored[key] for key in keys]).astype(np.float32)


def _read_cache(cache: Path) -> dict[int, NDArray[np.float16]]:
    if not cache.is_file():
        return {}
    with np.load(cache) as stored:
        return dict(zip(stored["keys"].tolist(), stored["rows"], strict=True))


def train(recipe: Recipe, folder: Path) -> None:
    """Trains the recipe's model in place; a killed run goes on where it stood."""
    mask = recipe.base.tokenizer(TRAINED_TOKENS).encode(["[MASK]"])[0][1]
    trainer = Trainer(
        recipe.model, recipe.train, recipe.validation, recipe.settings, folder, [Printer()], mask_id=mask
    )
    say(f"{len(recipe.train):,} texts an epoch, {trainer.steps_an_epoch:,} steps; training {trainer.steps:,}")
    trainer.run()


class Printer:
    """Says now and then where the training stands."""

    EVERY = 100

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}

    def step(self, step: int, steps: int, losses: dict[str, float], rate: float) -> None:
        """Adds up; prints the means of every hundred steps."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value / self.EVERY
        if step % self.EVERY == 0:
            means = ", ".join(f"{name} {value:.3f}" for name, value in self._sums.items())
            say(f"step {step:,} of {steps:,}: {means}")
            self._sums = {}

    def evaluation(self, step: int, figures: dict[str, dict[str, float]], score: float) -> None:
        """The figures on the texts kept for choices."""
        say(f"after {step:,} steps: {figures}")


def say(message: str) -> None:
    """A line of progress on the standard error."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)
