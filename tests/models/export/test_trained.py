"""The export of trained models: torch's outputs, whole manifests, and nothing published that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: make test-all")
pytest.importorskip("transformers", reason="transformers is missing: make test-all")
pytest.importorskip("onnx", reason="onnx is missing: make test-all")

from models.encoder.artefact import load_artefact  # noqa: E402
from models.errors import DeploymentError, InputError  # noqa: E402
from models.export.job import ExportRequest, export, load_trained  # noqa: E402
from models.export.trained import ExportPlan, export_model, run_artefact  # noqa: E402
from models.training.checkpoint import HeadNotes, save_checkpoint  # noqa: E402
from models.training.network import FeedbackModel, load_base  # noqa: E402
from models.training.tasks import LabelledTexts, Task, one_hot  # noqa: E402
from tests.models.training.tiny import make_rows, save_tiny_bert, write_rows  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
TEXTS = [str(row["text"]) for row in make_rows(60)]
TASKS = (
    Task("sentiment", "classes", ("very negative", "negative", "neutral", "positive", "very positive")),
    Task("intensity", "number", features=("mean", "mean:-2")),
    Task("topics", "labels", ("size", "price")),
    Task("intent", "classes", ("buy", "lend", "return"), features=("cls", "mean")),
    Task("category", "classes", ("only", "training")),
)
OUTPUTS = {"embedding": 32, "sentiment": 5, "intensity": 1, "topics": 2, "intents": 3}


def _trained(folder: Path, family: str = "bert") -> Path:
    """A run's checkpoint with heads of random weights."""
    base = load_base(save_tiny_bert(folder / "base", family))
    torch.manual_seed(1)
    model = FeedbackModel(base.encoder, TASKS)
    for head in model.heads.values():
        torch.nn.init.normal_(head.weight, std=0.3)
    save_checkpoint(folder / "checkpoint", model, base, HeadNotes({"sentiment": 2.0}, 0.4, ("en",), "tiny"))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _trained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "texts.jsonl", make_rows(60))


@pytest.mark.parametrize("quantize", ["int8", "fp16", "none"])
def test_every_head_is_exported_and_is_torchs(run: Path, data: Path, tmp_path: Path, quantize: str) -> None:
    artefact = export(ExportRequest(str(run), tmp_path / "a", quantize, (str(data),)))  # type: ignore[arg-type]
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert {name: rows.shape[1] for name, rows in run_artefact(artefact, TEXTS[:3]).items()} == OUTPUTS
    assert manifest["precision"] == {"int8": "int8", "fp16": "fp16", "none": "fp32"}[quantize]
    assert manifest["intents"] == {"names": ["buy", "lend", "return"], "thresholds": 0.4}
    assert manifest["topics"]["names"] == ["size", "price"]
    assert manifest["sentiment_labels"][0] == "very negative"
    assert manifest["metrics"]["cosine_to_fp32"]["mean"] > 0.999
    assert max(manifest["metrics"]["largest_difference"].values()) < 0.05
    assert manifest["batch_invariant"] is True
    assert manifest["languages"] == ["en"]
    assert manifest["not_served"] == ["category"]
    assert load_artefact(tmp_path / "a").version == manifest["version"]


@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_other_families_have_the_same_int8_graph(tmp_path: Path, data: Path, family: str) -> None:
    artefact = export(ExportRequest(str(_trained(tmp_path, family)), tmp_path / "a", "int8", (str(data),)))
    assert artefact.contract.inputs == ("input_ids",)


def test_an_unknown_activation_falls_back_and_says_what_it_costs(tmp_path: Path, data: Path) -> None:
    folder = save_tiny_bert(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    artefact = export(ExportRequest(str(folder), tmp_path / "a", "int8", (str(data),)))
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert "depends on the texts beside it" in manifest["quantization"]
    assert artefact.contract.outputs == ("embedding",)


def test_a_plain_checkpoint_needs_texts(tmp_path: Path) -> None:
    folder = save_tiny_bert(tmp_path / "base")
    with pytest.raises(InputError, match="give texts like those to be scored with --data"):
        export(ExportRequest(str(folder), tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_what_is_not_torchs_is_not_published(run: Path, tmp_path: Path) -> None:
    model, base, notes = load_trained(str(run))

    def another(texts: object) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        assert isinstance(texts, list)
        rows = np.tile(np.eye(1, 32, dtype=np.float32), (len(texts), 1))
        return {
            n: rows[:, :w] if n == "embedding" else np.zeros((len(texts), w), np.float32)
            for n, w in OUTPUTS.items()
        }

    with pytest.raises(DeploymentError, match="is not torch's"):
        export_model(model, base, notes, TEXTS, tmp_path / "a", ExportPlan("int8"), reference=another)
    assert list(tmp_path.iterdir()) == []


def test_metrics_stand_before_and_after(run: Path, tmp_path: Path) -> None:
    model, base, notes = load_trained(str(run))
    labels = LabelledTexts(TEXTS, {"sentiment": one_hot([i % 5 for i in range(len(TEXTS))], 5)})
    export_model(model, base, notes, TEXTS, tmp_path / "a", ExportPlan("int8"), labels)
    metrics = json.loads((tmp_path / "a" / "manifest.json").read_text())["metrics"]
    assert abs(metrics["before"]["sentiment"]["accuracy"] - metrics["after"]["sentiment"]["accuracy"]) < 0.1


def test_too_few_texts_are_refused(run: Path, tmp_path: Path) -> None:
    model, base, notes = load_trained(str(run))
    with pytest.raises(DeploymentError, match="expected 8 texts or more"):
        export_model(model, base, notes, ["one"], tmp_path / "a", ExportPlan("int8"))
