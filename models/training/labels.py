"""From the columns of the data to tasks and targets; what cannot be learnt from is refused in words."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from models.errors import InputError
from models.training.reading import Example, is_broken, usable_text
from models.training.tasks import INTENSITY, INTENT, SENTIMENT, TOPICS, Floats, LabelledTexts, Task, one_hot

RATING: Final = "rating"
TASKS: Final = (SENTIMENT, INTENSITY, RATING, TOPICS, INTENT)
#: The names of 2 to 5 classes of sentiment, worst first.
SENTIMENTS: Final[Mapping[int, tuple[str, ...]]] = {
    2: ("negative", "positive"),
    3: ("negative", "neutral", "positive"),
    4: ("very negative", "negative", "positive", "very positive"),
    5: ("very negative", "negative", "neutral", "positive", "very positive"),
}
#: Labels that mean "none of the intents".
OUT_OF_SCOPE: Final = frozenset({"oos", "out_of_scope", "out-of-scope", "out of scope", "none"})
LEAST_TEXTS: Final = 8
MOST_SENTIMENTS: Final = 5


@dataclass(frozen=True, slots=True)
class LabelRules:
    """How the columns are read. `labels` fixes the names, and the order, of a task's classes."""

    rating_scale: tuple[float, float] = (1.0, 5.0)
    sentiment_classes: int = 3  # made from ratings where there is no sentiment column
    tasks: tuple[str, ...] = ()  # only these; empty takes every task that the data has
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = self.rating_scale
        if not -math.inf < low < high < math.inf:
            raise InputError(f"rating scale: expected the lowest below the highest, got {low:g}:{high:g}")
        if self.sentiment_classes not in SENTIMENTS:
            raise InputError(f"sentiment classes: expected 2 to 5, got {self.sentiment_classes}")
        unknown = [task for task in (*self.tasks, *self.labels) if task not in TASKS]
        if unknown:
            raise InputError(f"there is no task {unknown[0]!r}; the tasks are {', '.join(TASKS)}")
        if SENTIMENT in self.labels:
            require_sentiments(self.labels[SENTIMENT])


@dataclass(frozen=True, slots=True)
class Labelled:
    """The tasks found, the texts with their targets, the folds that the data names, and what was left out."""

    tasks: tuple[Task, ...]
    texts: LabelledTexts
    splits: tuple[str, ...]  # "train", "validation", "test" or "" by text
    notes: tuple[str, ...]


def label_examples(examples: Sequence[Example], rules: LabelRules) -> Labelled:
    """Tasks and targets of all rows that have a text.

    Raises InputError when there is no text or nothing to learn, a rating is outside its scale, or a task
    has one class only.
    """
    rows = [example for example in examples if usable_text(example) is not None]
    notes = _unusable(examples)
    if len(rows) < LEAST_TEXTS:
        told = f" ({', '.join(notes)})" if notes else ""
        raise InputError(
            f"expected {LEAST_TEXTS} texts or more, got {len(rows)} among {len(examples)} rows{told}"
        )
    ratings = _ratings(rows, rules.rating_scale, notes)
    found = {
        name: made
        for name, make in _MAKERS.items()
        if (not rules.tasks or name in rules.tasks) and (made := make(rows, ratings, rules)) is not None
    }
    absent = [name for name in rules.tasks if name not in found]
    if absent:
        raise InputError(f"the data has nothing for the task {absent[0]}: {_NEEDS[absent[0]]}")
    if not found:
        raise InputError(
            "nothing to learn: the data has none of sentiment, rating, intensity, topics, intent"
        )
    texts = LabelledTexts(
        [str(example.values["text"]) for example in rows],
        {name: targets for name, (_, targets) in found.items()},
    )
    splits = tuple(_split(example) for example in rows)
    return Labelled(tuple(task for task, _ in found.values()), texts, splits, tuple(notes))


def _unusable(examples: Sequence[Example]) -> list[str]:
    """How many rows have no text that can be learnt from, by the reason."""
    unusable = [example.values.get("text") for example in examples if usable_text(example) is None]
    broken = sum(isinstance(text, str) and is_broken(text) for text in unusable)
    reasons = {"rows without a text": len(unusable) - broken, "texts with half of a surrogate pair": broken}
    return [f"{count:,} {reason}" for reason, count in reasons.items() if count]


Made = tuple[Task, Floats]
_NEEDS: Final = {
    SENTIMENT: "give a column sentiment, or ratings",
    INTENSITY: "give a column intensity in [0, 1], or ratings",
    RATING: "give a column rating",
    TOPICS: "give a column topics: a list, or names separated by ;",
    INTENT: "give a column intent",
}


def _ratings(rows: Sequence[Example], scale: tuple[float, float], notes: list[str]) -> Floats:
    """Ratings mapped to [0, 1], shape (rows,); NaN where there is none."""
    low, high = scale
    result = np.full(len(rows), np.nan, np.float32)
    broken = 0
    for place, example in enumerate(rows):
        if RATING not in example.values:
            continue
        value = _number(example, RATING)
        if not math.isfinite(value):
            broken += 1
        elif not low <= value <= high:
            raise InputError(
                f"{example.place}: rating {value:g} is outside {low:g}:{high:g}; declare the "
                "scale with --rating_scale"
            )
        else:
            result[place] = (value - low) / (high - low)
    given = sum(RATING in example.values for example in rows)
    if broken and broken == given:
        raise InputError(f"all {given:,} ratings are NaN or infinite: give numbers, or leave the column out")
    if broken:
        notes.append(f"{broken:,} ratings that are NaN or infinite")
    return result


def _number(example: Example, name: str) -> float:
    value = example.values[name]
    try:
        return float(str(value))
    except ValueError:
        raise InputError(f"{example.place}: expected a number as {name}, got {value!r}") from None


def _make_sentiment(rows: Sequence[Example], ratings: Floats, rules: LabelRules) -> Made | None:
    values = [_label(example.values.get(SENTIMENT)) for example in rows]
    if any(values):
        names = rules.labels.get(SENTIMENT) or order_sentiments({value for value in values if value})
        made = _classes(SENTIMENT, values, names, _sentiment_names(names))
        require_sentiments(names)  # last: that there is one class only is the plainer fault
        return made
    if np.isnan(ratings).all():
        return None
    names = rules.labels.get(SENTIMENT) or SENTIMENTS[rules.sentiment_classes]
    classes = [rating_class(float(rating), len(names)) for rating in ratings]
    _refuse_one_class(SENTIMENT, Counter(names[c] for c in classes if c is not None))
    return Task(SENTIMENT, "classes", _sentiment_names(names)), one_hot(classes, len(names))


def rating_class(rating: float, classes: int) -> int | None:
    """The class of a rating in [0, 1]: None for NaN, and for the middle when the classes have none.

    Of three classes the middle one is the fifth of the scale around its middle.
    """
    if math.isnan(rating):
        return None
    if classes == 3:
        return 0 if rating < 0.4 else 2 if rating > 0.6 else 1
    if classes % 2 == 0 and abs(rating - 0.5) < 1e-6:
        return None
    return min(classes - 1, int(rating * classes))


def order_sentiments(labels: set[str]) -> tuple[str, ...]:
    """Labels from worst to best: numbers by size, words as in `SENTIMENTS`.

    Raises InputError when the order cannot be known.
    """
    if all(_is_number(label) for label in labels):
        return tuple(sorted(labels, key=float))
    known = [name for name in SENTIMENTS[5] if name in {label.lower() for label in labels}]
    if len(known) == len(labels):
        return tuple(sorted(labels, key=lambda label: known.index(label.lower())))
    raise InputError(
        f"sentiment labels {sorted(labels)[:6]} have no order that is known here: name them from worst to "
        "best in --labels, or use numbers"
    )


def require_sentiments(labels: Sequence[str]) -> None:
    """Raises InputError unless there are 2 to 5 labels, and the well-known words are where they are read.

    Of the classes the first half is served as negative, the last half as positive, and one in the middle as
    neutral. Other words are taken as they come, worst first.
    """
    if not 2 <= len(labels) <= MOST_SENTIMENTS:
        raise InputError(
            f"sentiment has {len(labels)} classes, expected 2 to {MOST_SENTIMENTS}; call them intent?"
        )
    scale = SENTIMENTS[MOST_SENTIMENTS]
    given = {label.lower(): label for label in labels}
    known = [word for word in scale if word in given]
    in_order = known == [label.lower() for label in labels if label.lower() in scale]
    if in_order and all(
        _side(place, len(labels)) == _side(scale.index(label.lower()), len(scale))
        for place, label in enumerate(labels)
        if label.lower() in scale
    ):
        return
    whole = next((names for names in SENTIMENTS.values() if given.keys() <= set(names)), scale)
    raise InputError(
        "sentiment: expected labels from worst to best, as many negative as positive, with neutral in the "
        f"middle; got {list(labels)}: write {json.dumps([given.get(name, name) for name in whole])} in "
        "--labels, where a label that no text has is no fault, or rename the data's"
    )


def _side(place: int, count: int) -> int:
    """-1 for a class below the middle of `count` classes, 0 for the middle one, 1 above."""
    return (2 * place + 1 > count) - (2 * place + 1 < count)


def _sentiment_names(labels: Sequence[str]) -> tuple[str, ...]:
    """How the classes are served: well-known words as they are, all others by the words of their place."""
    words = tuple(label.lower() for label in labels)
    if len(words) != len(SENTIMENTS[3]) and set(words) <= set(SENTIMENTS[5]):
        return words
    return SENTIMENTS.get(len(words), words)


def _make_intensity(rows: Sequence[Example], ratings: Floats, rules: LabelRules) -> Made | None:
    values = np.full(len(rows), np.nan, np.float32)
    for place, example in enumerate(rows):
        if INTENSITY in example.values:
            values[place] = _number(example, INTENSITY)
            if math.isfinite(values[place]) and not 0 <= values[place] <= 1:
                raise InputError(f"{example.place}: expected an intensity in [0, 1], got {values[place]:g}")
    if np.isnan(values).all():
        values = np.abs(2 * ratings - 1)  # the distance from the middle of the scale
    return _number_task(INTENSITY, values)


def _make_rating(rows: Sequence[Example], ratings: Floats, rules: LabelRules) -> Made | None:
    return _number_task(RATING, ratings) if RATING in rules.tasks else None


def _number_task(name: str, values: Floats) -> Made | None:
    values = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    if np.ptp(known) == 0:
        raise InputError(
            f"every {name} is {known[0]:g}: there is nothing to learn; leave it out with --tasks"
        )
    return Task(name, "number"), values[:, None]


def _make_topics(rows: Sequence[Example], ratings: Floats, rules: LabelRules) -> Made | None:
    lists = [_topic_list(example.values.get(TOPICS)) for example in rows]
    if not any(lists):
        return None
    counts = Counter(name for names in lists for name in set(names or ()))
    names = rules.labels.get(TOPICS) or tuple(sorted(counts))
    _refuse_unknown(TOPICS, set(counts), names)
    place = {name: column for column, name in enumerate(names)}
    targets = np.full((len(rows), len(names)), np.nan, np.float32)
    for row, topics in zip(targets, lists, strict=True):
        if topics is not None:
            row[:] = 0
            row[[place[topic] for topic in topics]] = 1
    known = targets[~np.isnan(targets).any(axis=1)]
    if (known == known[0]).all():
        raise InputError(
            f"every text has the same topics ({', '.join(lists[0] or ())}): there is nothing to learn"
        )
    return Task(TOPICS, "labels", names), targets


def _topic_list(value: object) -> list[str] | None:
    """A list of names, or names separated by ; or |. None is unknown; an empty list is "none of them"."""
    if value is None:
        return None
    if isinstance(value, list):
        return [str(name).strip() for name in value if str(name).strip()]
    return [name.strip() for name in str(value).replace("|", ";").split(";") if name.strip()]


def _make_intent(rows: Sequence[Example], ratings: Floats, rules: LabelRules) -> Made | None:
    """A text out of scope has the uniform distribution as its target (outlier exposure, Hendrycks 2019)."""
    values = [_label(example.values.get(INTENT)) for example in rows]
    outside = [value is not None and value.lower() in OUT_OF_SCOPE for value in values]
    inside = [None if out else value for value, out in zip(values, outside, strict=True)]
    if not any(inside):
        return None
    names = rules.labels.get(INTENT) or tuple(sorted({value for value in inside if value}))
    task, targets = _classes(INTENT, inside, names, names)
    targets[np.array(outside)] = 1 / len(names)
    return task, targets


def _classes(name: str, values: Sequence[str | None], names: Sequence[str], shown: Sequence[str]) -> Made:
    counts = Counter(value for value in values if value)
    _refuse_unknown(name, set(counts), names)
    _refuse_one_class(name, counts)
    place = {label: column for column, label in enumerate(names)}
    rows = one_hot([None if value is None else place[value] for value in values], len(names))
    return Task(name, "classes", tuple(shown)), rows


def _refuse_one_class(name: str, counts: Mapping[str, int]) -> None:
    if len(counts) < 2:
        only = ", ".join(f"{label!r} ({count:,} texts)" for label, count in counts.items())
        raise InputError(
            f"{name} has one class only: {only}; give texts of another class, or leave it out with --tasks"
        )


def _refuse_unknown(name: str, found: set[str], names: Sequence[str]) -> None:
    unknown = sorted(found - set(names))
    if unknown:
        raise InputError(
            f"{name}: the data has the label {unknown[0]!r}, which is not among {list(names)[:8]}; correct "
            "the label file or the data"
        )


def _label(value: object) -> str | None:
    """A label as text; numbers that are whole lose their point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(value).strip()
    if _is_number(text) and float(text).is_integer():
        return str(int(float(text)))
    return text or None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _split(example: Example) -> str:
    name = str(example.values.get("split", "")).lower()
    return {"dev": "validation", "valid": "validation", "val": "validation"}.get(name, name)


_MAKERS: Final[Mapping[str, Callable[[Sequence[Example], Floats, LabelRules], Made | None]]] = {
    SENTIMENT: _make_sentiment,
    INTENSITY: _make_intensity,
    RATING: _make_rating,
    TOPICS: _make_topics,
    INTENT: _make_intent,
}


def read_label_file(path: Path) -> dict[str, tuple[str, ...]]:
    """{"sentiment": [worst, ..., best], "topics": [...], "intent": [...]}: names and their order.

    Raises InputError for any other content.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read the labels {path}: {error}") from None
    named = isinstance(content, dict) and all(
        task in TASKS and isinstance(names, list) and all(isinstance(n, str) and n for n in names)
        for task, names in content.items()
    )
    if not named:
        raise InputError(f'{path}: expected an object like {{"intent": ["refund", "delivery"]}}')
    for task, names in content.items():
        if len(set(names)) != len(names) or len(names) < 2:
            raise InputError(f"{path}: {task} needs two names or more, each once, got {names[:8]}")
    return {task: tuple(names) for task, names in content.items()}


def in_share(text: str, share: float, salt: str = "") -> bool:
    """Whether a text falls into a share of all texts: the same ones in every run and in every order."""
    digest = hashlib.sha256((salt + text.strip().lower()).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def fold_of(text: str, folds: int, seed: int) -> int:
    """The fold of a text in cross-validation, in [0, folds)."""
    digest = hashlib.sha256(f"{seed}:{text.strip().lower()}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") % folds
