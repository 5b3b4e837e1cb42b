"""How a fit runs: the early stop, the clipped gradient, the rate over the steps, TensorBoard's files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: make test-all")
pytest.importorskip("transformers", reason="transformers is missing: make test-all")

from models.training.curves import TensorBoardWatcher  # noqa: E402
from models.training.network import Base, FeedbackModel, load_base  # noqa: E402
from models.training.settings import Schedule, Settings  # noqa: E402
from models.training.tasks import LabelledTexts, Task, one_hot  # noqa: E402
from models.training.trainer import Trainer  # noqa: E402
from tests.models.training.tiny import save_tiny_bert  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
TASK = Task("sentiment", "classes", ("negative", "positive"))
STILL = Settings(
    rate=0.0, head_rate=0.0, max_steps=8, batch_size=8, max_length=16, bf16=False, hold_embedding=0.0,
    dropout=0.0, evaluate_every=1,
)  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return load_base(save_tiny_bert(tmp_path / "base"))


def _trainer(base: Base, settings: Settings, folder: Path, *watchers: TensorBoardWatcher) -> Trainer:
    labels = [i % 2 for i in range(16)]
    texts = LabelledTexts(
        ["great shoe" if label else "awful soup" for label in labels], {"sentiment": one_hot(labels, 2)}
    ).encode(base.tokenizer(16))
    torch.manual_seed(0)
    model = FeedbackModel(base.encoder, (TASK,), 0.0)
    return Trainer(model, texts, texts.take(np.arange(8)), settings, folder, watchers)


def test_it_stops_after_so_many_evaluations_without_a_better_score(base: Base, tmp_path: Path) -> None:
    stopped = _trainer(base, replace(STILL, patience=3), tmp_path).run()
    assert (stopped.steps, stopped.best_step) == (4, 1)  # the first score is the best, three are not better
    assert _trainer(base, STILL, tmp_path).run().steps == 8


@pytest.mark.parametrize("clip", [1e-3, 0.0])
def test_the_gradient_is_no_longer_than_the_clip(base: Base, tmp_path: Path, clip: float) -> None:
    trainer = _trainer(base, replace(STILL, clip=clip, max_steps=1), tmp_path)
    trainer.run()
    gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    assert norm == pytest.approx(1e-3, rel=1e-2) if clip else norm > 1e-2


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("cosine", [1, 0.854, 0.5, 0.146]),
        ("constant", [1, 1, 1, 1]),
    ],
)
def test_the_rate_rises_and_then_falls_as_the_schedule_says(
    base: Base, tmp_path: Path, schedule: Schedule, shares: list[float]
) -> None:
    settings = replace(STILL, schedule=schedule, rate=1e-4, head_rate=1e-3, warm_up=0.5)
    result = _trainer(base, settings, tmp_path).run()
    rates = [float(str(entry["rate"])) / 1e-3 for entry in result.history if "rate" in entry]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, *shares], abs=1e-3)


def test_tensorboard_gets_every_loss_rate_and_figure(base: Base, tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is missing: make test-all",
    )
    board = TensorBoardWatcher(tmp_path / "tensorboard")
    _trainer(base, STILL, tmp_path, board).run()
    board.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"loss/sentiment", "rate", "score", "sentiment/accuracy"} <= set(events.Tags()["scalars"])
    for name in ("loss/sentiment", "sentiment/accuracy"):
        assert [event.step for event in events.Scalars(name)] == list(range(1, 9))
