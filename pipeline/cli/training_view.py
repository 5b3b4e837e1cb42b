"""What people see of a training run: one live line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.cli.console import clock

if TYPE_CHECKING:
    from rich.progress import Progress

    from models.training.quality import EmbeddingQuality
    from models.training.trainer import Watcher

#: The figures of a task that are worth a column, in this order.
SHOWN: Final = (
    "accuracy", "macro_f1", "micro_f1", "auc", "ece", "spearman", "mse",
    "in_scope_accuracy", "out_of_scope_recall",
)  # fmt: skip
_SMOOTHING: Final = 0.9
_LINE_SECONDS: Final = 30.0  # between the lines where there is no bar


class ProgressWatcher:
    """Shows steps, loss, the last score and the time left; evaluations are printed as lines.

    Without a display the steps are a line too, every `_LINE_SECONDS` of `now`.
    """

    def __init__(self, display: Progress | None, now: Callable[[], float] = time.monotonic) -> None:
        self._display, self._now = display, now
        self._task = None if display is None else display.add_task("training", total=None, loss="", score="")
        self._loss: float | None = None
        self._began: tuple[float, int] | None = None  # time and step of the first step that was seen
        self._told = 0.0

    def step(self, step: int, steps: int, losses: dict[str, float], rate: float) -> None:
        """Moves the bar, or prints a line where the last one is long ago."""
        total = sum(losses.values())
        self._loss = total if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * total
        if self._display is not None and self._task is not None:
            self._display.update(self._task, completed=step, total=steps, loss=f"loss {self._loss:.3f}")
        elif self._began is None:
            self._began, self._told = (self._now(), step), self._now()
        elif (now := self._now()) - self._told >= _LINE_SECONDS:
            began, first = self._began
            left = (now - began) / (step - first) * (steps - step)
            self._told = now
            print(f"step {step:,} of {steps:,}: loss {self._loss:.3f}, {clock(left)} left", flush=True)

    def evaluation(self, step: int, figures: dict[str, dict[str, float]], score: float) -> None:
        """Prints the figures."""
        line = f"step {step:,}: {figures_line(figures)}"
        if self._display is not None and self._task is not None:
            self._display.update(self._task, score=f"score {score:.3f}")
            self._display.console.print(line, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)


@contextmanager
def training_progress() -> Iterator[ProgressWatcher]:
    """A watcher with a bar on a terminal's standard error; nothing of it stays behind."""
    if not sys.stderr.isatty():
        yield ProgressWatcher(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"), TextColumn("{task.fields[score]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        yield ProgressWatcher(display)


@contextmanager
def run_watchers(folder: Path) -> Iterator[list[Watcher]]:
    """Who sees every run: TensorBoard's files in its folder, and the people before the screen."""
    from models.training.curves import TensorBoardWatcher

    board = TensorBoardWatcher(folder / "tensorboard")
    try:
        with training_progress() as shown:
            yield [board, shown]
    finally:
        board.close()


def figures_line(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Such as "sentiment accuracy 0.912, macro_f1 0.874; intensity spearman 0.612"."""
    parts = []
    for task, values in figures.items():
        shown = [f"{name} {values[name]:.3f}" for name in SHOWN if name in values]
        parts.append(f"{task} {', '.join(shown)}")
    return "; ".join(parts)


def embedding_line(figures: Mapping[str, object]) -> str:
    """Such as "cosine to before 0.981, k-NN 0.81 -> 0.8"."""
    knn = f"k-NN {figures['knn_before']} -> {figures['knn_after']}"
    return f"cosine to before {figures['cosine']}, {knn}"


def conclude(
    args: argparse.Namespace, embedding: EmbeddingQuality, left: str,
    remedy: str = "Raise --hold_embedding or lower --rate",
) -> int:  # fmt: skip
    """Says what a run left and what comes next; the exit code, 1 for an embedding that got worse."""
    fault = embedding.fault()
    if fault and not args.accept_embedding:
        print(
            f"livelist: {fault}. {remedy}, in another folder; {left}, and "
            "--accept_embedding takes it as it is",
            file=sys.stderr,
        )
        return 1
    print(f"{left}; next: livelist export --model {args.output} --output ARTEFACT")
    return 0


def print_metrics(metrics: Mapping[str, object]) -> None:
    """One line a task, then the embedding and the cross-validation."""
    width = max(map(len, metrics))
    for name, figures in metrics.items():
        if not isinstance(figures, dict):
            continue
        if name == "embedding":
            print(f"{name:<{width}}  {embedding_line(figures)}")
        elif name == "cross_validation":
            for figure, values in figures.items():
                print(
                    f"{name:<{width}}  {figure} {values['mean']} ± {values['sd']} ({values['folds']} folds)"
                )
        else:
            print(f"{name:<{width}}  {figures_line({'': figures}).strip()}")
