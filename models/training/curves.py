"""What a run looked like: TensorBoard event files, a PNG and an HTML page of its curves, W&B."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from models.errors import DeploymentError
from models.training.evaluation import MAIN_FIGURE
from models.training.run_folder import HISTORY_NAME, write_history
from models.training.tasks import Task

Points = list[tuple[int, float]]
COLOURS: Final = ("#3366cc", "#dc3912", "#109618", "#990099", "#ff9900", "#0099c6", "#dd4477", "#66aa00")
SMOOTHING: Final = 0.9  # of the loss curves, exponential
_WIDTH, _HEIGHT, _MARGIN = 640, 260, 42


class TensorBoardWatcher:
    """Writes TensorBoard's event files."""

    def __init__(self, folder: Path) -> None:
        """Raises DeploymentError when tensorboard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise DeploymentError("tensorboard is missing: pip install 'livelist[train]'") from None
        self._open = partial(SummaryWriter, str(folder))
        self._opened: Any = None

    @property
    def _writer(self) -> Any:
        """Opened when there is something to write."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def step(self, step: int, steps: int, losses: dict[str, float], rate: float) -> None:
        """Losses by term, and the rate."""
        for name, value in losses.items():
            self._writer.add_scalar(f"loss/{name}", value, step)
        self._writer.add_scalar("rate", rate, step)

    def evaluation(self, step: int, figures: dict[str, dict[str, float]], score: float) -> None:
        """Every figure of every task."""
        for task, values in figures.items():
            for name, value in values.items():
                self._writer.add_scalar(f"{task}/{name}", value, step)
        self._writer.add_scalar("score", score, step)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        if self._opened is not None:
            self._opened.close()


class WandbWatcher:
    """Sends a run to Weights & Biases."""

    def __init__(self, project: str, config: Mapping[str, object], folder: Path) -> None:
        """Raises DeploymentError when wandb is not installed."""
        try:
            import wandb
        except ImportError:
            raise DeploymentError("--wandb needs the package wandb: pip install wandb") from None
        self._open = partial(wandb.init, project=project, config=dict(config), dir=str(folder))
        self._opened: Any = None

    @property
    def _run(self) -> Any:
        """Begun when there is something to send."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def step(self, step: int, steps: int, losses: dict[str, float], rate: float) -> None:
        """Losses by term, and the rate."""
        self._run.log({"rate": rate, **{f"loss/{name}": value for name, value in losses.items()}}, step=step)

    def evaluation(self, step: int, figures: dict[str, dict[str, float]], score: float) -> None:
        """Every figure of every task."""
        flat = {f"{task}/{name}": value for task, values in figures.items() for name, value in values.items()}
        self._run.log({"score": score, **flat}, step=step)

    def close(self) -> None:
        """Ends the run."""
        if self._opened is not None:
            self._opened.finish()


def write_curves(folder: Path, tasks: Sequence[Task], history: Sequence[Mapping[str, object]]) -> None:
    """A run's history.jsonl, curves.html and curves.png; none of them where nothing was trained.

    Raises DeploymentError when matplotlib is not installed.
    """
    if not history:
        return
    write_history(folder / HISTORY_NAME, history)
    charts = {
        "loss": loss_curves(history),
        "validation": score_curves(history, {task.name: task.kind for task in tasks}),
    }
    write_html(folder / "curves.html", folder.name, charts)
    write_png(folder / "curves.png", charts)


def loss_curves(history: Sequence[Mapping[str, object]]) -> dict[str, Points]:
    """Term of the loss -> smoothed values by step."""
    curves: dict[str, Points] = {}
    for entry in history:
        for name, value in entry.items():
            if "validation" in entry or name in ("step", "rate") or not isinstance(value, float):
                continue
            points = curves.setdefault(name, [])
            smooth = SMOOTHING * points[-1][1] + (1 - SMOOTHING) * value if points else value
            points.append((_step(entry), smooth))
    return curves


def score_curves(history: Sequence[Mapping[str, object]], kinds: Mapping[str, str]) -> dict[str, Points]:
    """Task -> its main figure on the validation set by step."""
    curves: dict[str, Points] = {}
    for entry in history:
        figures = entry.get("validation")
        for task, values in figures.items() if isinstance(figures, dict) else ():
            name = MAIN_FIGURE[kinds[task]]
            if name in values:
                curves.setdefault(f"{task} {name}", []).append((_step(entry), float(values[name])))
    return curves


def _step(entry: Mapping[str, object]) -> int:
    return int(str(entry["step"]))


def write_png(path: Path, charts: Mapping[str, Mapping[str, Points]]) -> None:
    """The charts side by side. Raises DeploymentError when matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DeploymentError("matplotlib is missing: pip install 'livelist[train]'") from None
    figure = Figure(figsize=(6 * len(charts), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, curves) in enumerate(charts.items(), 1):
        axes = figure.add_subplot(1, len(charts), place)
        axes.set_title(title)
        axes.set_xlabel("step")
        for name, points in curves.items():
            axes.plot([x for x, _ in points], [y for _, y in points], label=name, linewidth=1.2)
        if curves:
            axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def write_html(path: Path, title: str, charts: Mapping[str, Mapping[str, Points]]) -> None:
    """One page with the charts as SVG; it needs no script and no network."""
    body = "\n".join(f"<h2>{html.escape(name)}</h2>\n{_svg(curves)}" for name, curves in charts.items())
    path.write_text(
        f"<!doctype html>\n<meta charset=utf-8>\n<title>{html.escape(title)}</title>\n"
        "<style>body{font:14px sans-serif;margin:2em;max-width:60em}text{font:11px sans-serif}</style>\n"
        f"<h1>{html.escape(title)}</h1>\n{body}\n",
        encoding="utf-8",
    )


def _svg(curves: Mapping[str, Points]) -> str:
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return "<p>nothing was recorded</p>"
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)

    def place(point: tuple[int, float]) -> str:
        x = _MARGIN + (point[0] - left) / max(1, right - left) * (_WIDTH - 2 * _MARGIN)
        y = _HEIGHT - _MARGIN - (point[1] - low) / max(1e-12, high - low) * (_HEIGHT - 2 * _MARGIN)
        return f"{x:.1f},{y:.1f}"

    lines = []
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        drawn = " ".join(place(point) for point in curve)
        lines.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        lines.append(
            f'<text x="{_WIDTH + 4}" y="{20 + 15 * number}" fill="{colour}">{html.escape(name)}</text>'
        )
    lines += [
        f'<text x="2" y="{_HEIGHT - _MARGIN}">{low:.4g}</text><text x="2" y="{_MARGIN}">{high:.4g}</text>',
        f'<text x="{_MARGIN}" y="{_HEIGHT - 12}">{left}</text>',
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 12}" text-anchor="end">step {right}</text>',
    ]
    inside = "\n".join(lines)
    return f'<svg width="{_WIDTH + 200}" height="{_HEIGHT}" role="img">\n{inside}\n</svg>'
