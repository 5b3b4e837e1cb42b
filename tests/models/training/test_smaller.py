"""What `distil` and `prune` share with `train`: nothing that was asked is dropped, and all of it is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is missing: make test-all")
pytest.importorskip("transformers", reason="transformers is missing: make test-all")

from models.errors import InputError, OutputError  # noqa: E402
from models.training import trainer  # noqa: E402
from models.training.augment import edit_tokens  # noqa: E402
from models.training.distil import DistilRequest, distil  # noqa: E402
from models.training.job import train  # noqa: E402
from models.training.labels import LabelRules  # noqa: E402
from models.training.prune import PruneRequest, prune  # noqa: E402
from models.training.request import TrainingRequest, read_request  # noqa: E402
from models.training.settings import Settings  # noqa: E402
from tests.models.training.tiny import make_rows, save_tiny_bert, write_rows  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
QUICK = Settings(
    rate=1e-3, head_rate=1e-2, max_steps=3, batch_size=16, max_length=16, bf16=False, evaluate_every=2
)
MASK = 4


class _Stop:
    """A watcher that ends a run at its first step, as a kill would."""

    def step(self, step: int, steps: int, losses: dict[str, float], rate: float) -> None:
        raise InterruptedError

    def evaluation(self, step: int, figures: dict[str, dict[str, float]], score: float) -> None:
        """Looks away."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Two cores that others use as well."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> TrainingRequest:
    """Goes on from a finished run."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_rows(folder / "reviews.jsonl", make_rows(160))
    rules = LabelRules(tasks=("sentiment", "topics"))
    asked = TrainingRequest(str(save_tiny_bert(folder / "base")), (str(data),), QUICK, rules)
    train(asked, folder / "first", report=lambda _: None)
    return replace(read_request(folder / "first"), base=str(folder / "first"))


def _history(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_a_students_embedding_is_held_as_strongly_as_asked(further: TrainingRequest, tmp_path: Path) -> None:
    terms = []
    for name, hold, contrast in (("held", 2.0, 0.0), ("once", 1.0, 0.0), ("free", 0.0, 0.5)):
        settings = replace(QUICK, hold_embedding=hold, contrast_embedding=contrast)
        asked = replace(further, settings=settings)
        distil(DistilRequest(asked, layers=1), tmp_path / name)
        terms.append(_history(tmp_path / name)[0])
    assert float(str(terms[0]["embedding"])) == pytest.approx(2 * float(str(terms[1]["embedding"])), rel=1e-4)
    assert "contrast" not in terms[1]
    assert "embedding" not in terms[2]
    assert float(str(terms[2]["contrast"])) > 0


def test_edits_mask_tokens_there_too(
    further: TrainingRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()

    def watched(*arguments: object) -> list[int]:
        ids = edit_tokens(*arguments)  # type: ignore[arg-type]
        seen.update(ids)
        return ids

    monkeypatch.setattr(trainer, "edit_tokens", watched)
    asked = replace(further, settings=replace(QUICK, edits=0.5))
    for run in (
        lambda: distil(DistilRequest(asked, layers=1), tmp_path / "small"),
        lambda: prune(
            PruneRequest(asked, layers=1, recover_steps=2), tmp_path / "fewer", report=lambda _: None
        ),
    ):
        seen.clear()
        run()
        assert MASK in seen


def test_a_student_asked_otherwise_does_not_go_on_silently(further: TrainingRequest, tmp_path: Path) -> None:
    asked = DistilRequest(further, layers=1)
    with pytest.raises(InterruptedError):
        distil(asked, tmp_path / "small", [_Stop()])
    for name, other in (
        ("temperature", replace(asked, temperature=0.5)),
        ("teacher_weight", replace(asked, teacher_weight=0.5)),
        ("states_weight", replace(asked, states_weight=0.5)),
    ):
        with pytest.raises(OutputError, match=f"unfinished run with another {name}"):
            distil(other, tmp_path / "small")


def test_weights_of_a_teacher_are_finite_and_not_negative(further: TrainingRequest) -> None:
    with pytest.raises(InputError, match="temperature: expected a number above 0, got nan"):
        DistilRequest(further, layers=1, temperature=math.nan)
    with pytest.raises(InputError, match="teacher_weight: expected a number of at least 0, got -1"):
        DistilRequest(further, layers=1, teacher_weight=-1.0)
    with pytest.raises(InputError, match="states_weight: expected a number of at least 0, got inf"):
        DistilRequest(further, layers=1, states_weight=math.inf)


def test_a_recovery_asked_otherwise_does_not_go_on_silently(further: TrainingRequest, tmp_path: Path) -> None:
    asked = PruneRequest(further, layers=1, recover_steps=3)
    with pytest.raises(InterruptedError):
        prune(asked, tmp_path / "fewer", [_Stop()], report=lambda _: None)
    with pytest.raises(OutputError, match="unfinished run with another recover_steps"):
        prune(replace(asked, recover_steps=4), tmp_path / "fewer")
    with pytest.raises(InputError, match="recover_steps: expected 0 or more, got -1"):
        replace(asked, recover_steps=-1)


@pytest.mark.parametrize("command", ["distil", "prune"])
def test_a_smaller_model_leaves_what_a_training_leaves(
    further: TrainingRequest, tmp_path: Path, command: str
) -> None:
    runs: dict[str, Callable[[], object]] = {
        "distil": lambda: distil(DistilRequest(further, layers=1), tmp_path / "run"),
        "prune": lambda: prune(
            PruneRequest(further, layers=1, recover_steps=3), tmp_path / "run", report=lambda _: None
        ),
    }
    runs[command]()
    assert [entry["step"] for entry in _history(tmp_path / "run") if "rate" in entry] == [1, 2, 3]
    assert "sentiment accuracy" in (tmp_path / "run" / "curves.html").read_text()
    assert (tmp_path / "run" / "curves.png").stat().st_size > 0
    assert "- embedding: cosine" in (tmp_path / "run" / "README.md").read_text()


def test_pruning_measures_what_became_of_the_embedding(further: TrainingRequest, tmp_path: Path) -> None:
    pruned = prune(PruneRequest(further, layers=1), tmp_path / "fewer", report=lambda _: None)
    assert 0 < pruned.embedding.cosine < 1
    stored = json.loads((tmp_path / "fewer" / "metrics.json").read_text())["embedding"]
    assert stored == pruned.embedding.figures()
    assert not (tmp_path / "fewer" / "curves.html").exists()  # nothing was trained


@pytest.mark.parametrize("name", ["unlabelled", "synonyms"])
def test_files_that_changed_under_an_unfinished_run_are_told(
    further: TrainingRequest, tmp_path: Path, name: str
) -> None:
    unlabelled = write_rows(tmp_path / "loose.jsonl", [{"text": "lovely soup"}])
    synonyms = tmp_path / "synonyms.csv"
    synonyms.write_text("great,lovely\n")
    asked = replace(further, unlabelled=(str(unlabelled),), synonyms=str(synonyms), ask=1)
    with pytest.raises(InterruptedError):
        train(asked, tmp_path / "run", [_Stop()], report=lambda _: None)
    with {"unlabelled": unlabelled, "synonyms": synonyms}[name].open("a") as file:
        file.write('{"text": "poor bread"}\n' if name == "unlabelled" else "poor,bad\n")
    with pytest.raises(OutputError, match=f"unfinished run with another {name}"):
        train(asked, tmp_path / "run", report=lambda _: None)
    (tmp_path / "loose.jsonl").unlink()
    with pytest.raises(InputError, match=r"there is no file .*loose\.jsonl"):
        train(asked, tmp_path / "new", report=lambda _: None)
