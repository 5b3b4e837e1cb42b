"""The trainer on a BERT small enough for a test: it learns, masks, repeats itself, and survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: make test-all")
pytest.importorskip("transformers", reason="transformers is missing: make test-all")

from models.errors import DeploymentError, InputError, OutputError  # noqa: E402
from models.training.augment import edit_tokens, exchange_synonyms, read_synonyms  # noqa: E402
from models.training.checkpoint import HEADS_CONFIG_NAME, load_checkpoint, save_checkpoint  # noqa: E402
from models.training.distil import DistilRequest, distil, evenly  # noqa: E402
from models.training.evaluation import (  # noqa: E402
    evaluate,
    fit_scope_threshold,
    fit_temperature,
    probabilities,
)
from models.training.job import train  # noqa: E402
from models.training.labels import LabelRules  # noqa: E402
from models.training.losses import embedding_terms, task_losses  # noqa: E402
from models.training.network import FeedbackModel, embed_texts, load_base  # noqa: E402
from models.training.prune import PruneRequest, prune  # noqa: E402
from models.training.quality import compare_embeddings, far_apart, knn_accuracy  # noqa: E402
from models.training.request import TrainingRequest, read_request  # noqa: E402
from models.training.settings import Mode, Settings  # noqa: E402
from models.training.tasks import LabelledTexts, Task, one_hot  # noqa: E402
from models.training.trainer import STATE_NAME, Trainer  # noqa: E402
from models.training.vocabulary import extend_vocabulary  # noqa: E402
from tests.models.training.tiny import make_rows, save_tiny_bert, write_rows  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
QUICK = Settings(
    rate=3e-3, head_rate=1e-2, epochs=12, batch_size=16, max_length=16, bf16=False, hold_embedding=0.1,
    dropout=0.0,
)  # fmt: skip
TASKS = (
    Task("sentiment", "classes", ("negative", "positive")),
    Task("intensity", "number", features=("cls", "mean:-2")),
    Task("topics", "labels", ("a", "b", "c")),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Sums in one order, whatever else the machine does."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "reviews.jsonl", make_rows(240))


@pytest.fixture(scope="module")
def run(folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over all tasks."""
    output = tmp_path_factory.mktemp("runs") / "first"
    train(TrainingRequest(str(folder), (str(data),), QUICK), output, report=lambda _: None)
    return output


def _texts(count: int = 24) -> LabelledTexts:
    random = np.random.default_rng(3)
    labels: list[int | None] = [None if i % 3 == 0 else i % 2 for i in range(count)]
    return LabelledTexts(
        ["great shoe" if label else "awful soup page" for label in labels],
        {
            "sentiment": one_hot(labels, 2),
            "intensity": np.where(np.arange(count) % 2, 0.25, np.nan).astype(np.float32)[:, None],
            "topics": random.integers(0, 2, (count, 3)).astype(np.float32),
        },
    )


def test_a_run_learns_every_task_and_leaves_everything_behind(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["sentiment"]["accuracy"] > 0.8
    assert metrics["topics"]["micro_f1"] > 0.7
    assert metrics["intensity"]["spearman"] > 0.6
    assert metrics["intent"]["accuracy"] > 0.8
    assert metrics["intent"]["out_of_scope_recall"] > 0.5
    assert 0 <= metrics["sentiment"]["ece"] <= 0.3
    config = json.loads((run / "config.json").read_text())
    assert len(config["data"][0]["sha256"]) == 64
    assert {"torch", "transformers", "python"} <= set(config["libraries"])
    for name in (
        "README.md",
        "curves.png",
        "curves.html",
        "history.jsonl",
        "checkpoint/encoder/tokenizer.json",
    ):
        assert (run / name).stat().st_size > 0
    assert not (run / STATE_NAME).exists()
    assert read_request(run).settings == QUICK


def test_a_finished_folder_and_another_runs_folder_are_refused(run: Path, data: Path, tmp_path: Path) -> None:
    request = read_request(run)
    with pytest.raises(OutputError, match="finished run"):
        train(request, run, report=lambda _: None)
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    with pytest.raises(OutputError, match="another arguments"):
        train(replace(request, validation_share=0.2), tmp_path, report=lambda _: None)


def test_absent_labels_have_no_part_in_the_loss(folder: Path) -> None:
    texts = _texts()
    base = load_base(folder)
    model = FeedbackModel(base.encoder, TASKS, 0.0).eval()
    encoded = texts.encode(base.tokenizer(16))
    trainer = Trainer(model, encoded, None, QUICK, folder)
    batch = trainer.train.collate(np.arange(24))
    loss = task_losses(TASKS, encoded, QUICK, trainer.device)["sentiment"]
    logits = torch.zeros(24, 2)
    before = loss(logits, batch)
    logits[::3] = torch.tensor([50.0, -50.0])
    assert float(loss(logits, batch)) == pytest.approx(float(before)) == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_modes_change_only_what_they_may(folder: Path, mode: Mode, tmp_path: Path) -> None:
    if mode == "lora":
        pytest.importorskip("peft", reason="peft is missing: make test-all")
    base = load_base(folder)
    before = {name: value.clone() for name, value in base.encoder.state_dict().items()}
    model = FeedbackModel(base.encoder, TASKS, 0.0)
    settings = replace(QUICK, mode=mode, max_steps=3)
    texts = _texts().encode(base.tokenizer(16))
    Trainer(model, texts, None, settings, tmp_path).run()
    save_checkpoint(tmp_path / "checkpoint", model, base)
    after = load_checkpoint(tmp_path)[0].encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    if mode == "frozen":
        assert changed == set()
    else:
        assert changed
        assert all("query" in name or "value" in name for name in changed)


def test_old_word_vectors_stay_while_new_ones_learn(folder: Path, tmp_path: Path) -> None:
    base = load_base(folder)
    old = base.encoder.get_input_embeddings().weight.detach().clone()
    extend_vocabulary(base, {"好": np.full(32, 0.01, np.float32), "差": np.full(32, -0.01, np.float32)})
    model = FeedbackModel(base.encoder, TASKS[:1], 0.0)
    texts = LabelledTexts(["好 shoe", "差 shoe"] * 8, {"sentiment": one_hot([1, 0] * 8, 2)})
    encoded = texts.encode(base.tokenizer(16))
    assert encoded.ids[0][1] == len(old)
    Trainer(model, encoded, None, replace(QUICK, max_steps=20), tmp_path).run()
    save_checkpoint(tmp_path / "checkpoint", model, base)
    loaded, again, _ = load_checkpoint(tmp_path)
    table = loaded.encoder.get_input_embeddings().weight
    assert torch.equal(table[: len(old)], old)
    assert not torch.allclose(table[len(old)], torch.full((32,), 0.01))
    assert again.tokenizer(16).encode(["好"])[0][1] == len(old)
    with pytest.raises(ValueError, match="in the vocabulary already"):
        extend_vocabulary(again, {"好": np.zeros(32, np.float32)})


def test_holding_the_embedding_keeps_it_where_it_was(folder: Path, tmp_path: Path) -> None:
    cosines = []
    for weight in (0.0, 5.0):
        base = load_base(folder)
        texts = _texts().encode(base.tokenizer(16))
        before = embed_texts(base, texts.texts, 16)
        texts = texts.with_embeddings(before)
        model = FeedbackModel(base.encoder, TASKS, 0.0)
        Trainer(model, texts, None, replace(QUICK, hold_embedding=weight, max_steps=30), tmp_path).run()
        cosines.append(float((embed_texts(base, texts.texts, 16) * before).sum(axis=1).mean()))
    assert cosines[1] > 0.98
    assert cosines[1] > cosines[0]


def test_the_contrastive_term_is_least_for_the_right_pairs() -> None:
    wanted = torch.eye(4)
    settings = Settings(hold_embedding=0, contrast_embedding=1)
    right = embedding_terms(torch.eye(4), wanted, settings)["contrast"]
    wrong = embedding_terms(torch.eye(4).roll(1, 0), wanted, settings)["contrast"]
    assert float(right) < 0.01 < float(wrong)
    unknown = torch.full((4, 4), torch.nan)
    assert embedding_terms(torch.eye(4), unknown, settings) == {}


def test_the_same_seed_gives_the_same_weights_with_every_augmentation(folder: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, max_steps=4, edits=0.2, adversarial=0.5, accumulate=2, label_smoothing=0.1,
                       class_weights="balanced", schedule="cosine", dropout=0.2)  # fmt: skip
    weights = []
    for seed in (0, 0, 1):
        base = load_base(folder)
        torch.manual_seed(0)
        model = FeedbackModel(base.encoder, TASKS, 0.2)
        texts = _texts().encode(base.tokenizer(16))
        Trainer(model, texts, None, replace(settings, seed=seed), tmp_path, mask_id=base.mask_id()).run()
        weights.append(torch.cat([value.flatten() for value in model.state_dict().values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from pathlib import Path
from models.training.job import train
from models.training.request import read_request
class Slow:
    def step(self, step, steps, losses, rate):
        if step > 6: time.sleep(0.2)
    def evaluation(self, step, figures, score): pass
folder = Path(sys.argv[2])
train(read_request(folder), folder, [Slow()])
"""


def test_a_killed_run_goes_on_to_the_same_weights(folder: Path, data: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, epochs=0.01, max_steps=14, save_every=5, evaluate_every=4, dropout=0.1)
    request = TrainingRequest(str(folder), (str(data),), settings, LabelRules(tasks=("sentiment", "topics")))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(request, whole, report=lambda _: None)
    killed.mkdir()
    config = json.loads((whole / "config.json").read_text())
    (killed / "config.json").write_text(json.dumps(config))
    root = str(Path(__file__).resolve().parents[3])
    process = subprocess.Popen([sys.executable, "-c", KILLED, root, str(killed)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while not (killed / STATE_NAME).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None, "it ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert not (killed / "metrics.json").exists()
    train(request, killed, report=lambda _: None)
    for name in ("encoder/model.safetensors", "heads.safetensors"):
        assert (killed / "checkpoint" / name).read_bytes() == (whole / "checkpoint" / name).read_bytes()


class _Steps:
    """A watcher that counts."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def step(self, step: int, steps: int, losses: dict[str, float], rate: float) -> None:
        assert step <= steps
        self.steps.append(step)

    def evaluation(self, step: int, figures: dict[str, dict[str, float]], score: float) -> None:
        assert step == self.steps[-1]


def test_cross_validation_pseudo_labels_and_questions(folder: Path, data: Path, tmp_path: Path) -> None:
    loose = write_rows(tmp_path / "loose.jsonl", [{"text": row["text"]} for row in make_rows(60, seed=9)])
    synonyms = tmp_path / "synonyms.txt"
    synonyms.write_text("great,lovely\n")
    request = TrainingRequest(
        str(folder), (str(data),), replace(QUICK, epochs=4), LabelRules(tasks=("sentiment",)), folds=2,
        synonyms=str(synonyms), unlabelled=(str(loose),), pseudo_gate=0.5, ask=5,
    )  # fmt: skip
    said: list[str] = []
    seen = _Steps()
    trained = train(request, tmp_path / "run", [seen], report=said.append)
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    steps = [entry["step"] for entry in history if "rate" in entry]
    assert steps == seen.steps == list(range(1, len(steps) + 1))  # the fit on pseudo-labels after the first
    assert trained.metrics["steps"] == len(steps)
    cross = trained.metrics["cross_validation"]
    assert isinstance(cross, dict)
    assert cross["sentiment/accuracy"]["folds"] == 2
    asked = [json.loads(line) for line in (tmp_path / "run" / "to_label.jsonl").read_text().splitlines()]
    assert len(asked) == 5
    assert [row["uncertainty"] for row in asked] == sorted(
        (row["uncertainty"] for row in asked), reverse=True
    )
    assert any("unlabelled texts are surer" in line for line in said)


def test_layers_and_heads_are_pruned_with_the_loss_told(run: Path, tmp_path: Path) -> None:
    request = replace(read_request(run), base=str(run))
    fewer = prune(PruneRequest(request, layers=1), tmp_path / "layers", report=lambda _: None)
    assert len(fewer.removed) == 1
    assert fewer.before["sentiment"]["accuracy"] >= fewer.after["sentiment"]["accuracy"] - 0.2
    assert load_checkpoint(tmp_path / "layers")[0].encoder.config.num_hidden_layers == 1
    recover = replace(request, settings=replace(QUICK, hold_embedding=0.0))
    emptied = prune(
        PruneRequest(recover, heads=0.5, recover_steps=3), tmp_path / "heads", report=lambda _: None
    )
    assert len(emptied.removed) == 2
    assert set(emptied.recovered) == {"sentiment", "intensity", "topics", "intent"}
    from models.export.checkpoint import bert_of

    assert [layer.heads for layer in bert_of(load_checkpoint(tmp_path / "heads")[0].encoder).layers] == [1, 1]
    with pytest.raises(InputError, match="expected 1 to 1, got 2"):
        prune(PruneRequest(request, layers=2), tmp_path / "none", report=lambda _: None)


def test_labels_that_do_not_match_the_models_heads_are_refused(run: Path, tmp_path: Path) -> None:
    request = replace(read_request(run), base=str(run))
    for rules, says in (
        (
            LabelRules(labels={"topics": ("shoes", "books", "food")}),
            "model's head has the labels",
        ),
        (LabelRules(tasks=("rating",)), "labels for none of the model's tasks"),
    ):
        with pytest.raises(InputError, match=says):
            prune(PruneRequest(replace(request, rules=rules), layers=1), tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_student_is_smaller_and_near_its_teacher(run: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, epochs=8, hold_embedding=1.0)
    request = replace(read_request(run), base=str(run), settings=settings)
    result = distil(DistilRequest(request, layers=1, hidden=16), tmp_path / "small")
    assert result.parameters["student"] < 0.5 * result.parameters["teacher"]
    assert result.student["sentiment"]["accuracy"] > 0.6
    assert result.embedding.cosine > 0.8
    assert result.embedding.held == (result.embedding.fault() == "")
    student = load_checkpoint(tmp_path / "small")[0]
    assert student.encoder.config.hidden_size == 16
    with pytest.raises(InputError, match="multiple of 2, got 15"):
        distil(DistilRequest(request, hidden=15), tmp_path / "odd")


def test_layers_are_chosen_at_even_distances_with_the_last() -> None:
    assert evenly(6, 3) == [1, 3, 5]
    assert evenly(12, 12) == list(range(12))
    assert evenly(6, 1) == [5]


def test_heads_that_do_not_match_their_description_are_refused(run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run / "checkpoint", tmp_path / "checkpoint")
    path = tmp_path / "checkpoint" / HEADS_CONFIG_NAME
    described = json.loads(path.read_text())
    described["tasks"][0]["labels"] = ["negative", "positive"]
    path.write_text(json.dumps(described))
    with pytest.raises(DeploymentError, match=r"does not match the heads: sentiment\.\w+ should have shape"):
        load_checkpoint(tmp_path)
    with pytest.raises(DeploymentError, match="not a trained checkpoint"):
        load_checkpoint(tmp_path / "nothing")
    with pytest.raises(DeploymentError, match="cannot load an encoder"):
        load_base(tmp_path / "nothing")


def test_a_model_of_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(DeploymentError, match="'gpt2' model; expected one of bert"):
        load_base(tmp_path)


def test_the_temperature_calibrates_and_the_threshold_finds_strangers() -> None:
    random = np.random.default_rng(0)
    task = Task("intent", "classes", ("a", "b", "c"))
    truth = random.integers(0, 3, 4000)
    logits = random.normal(size=(4000, 3)).astype(np.float32)
    logits[np.arange(4000), truth] += 2
    targets = one_hot(truth.tolist(), 3)
    texts = LabelledTexts([""] * 4000, {"intent": targets})
    temperature = fit_temperature(task, 4 * logits, targets)
    assert temperature == pytest.approx(2, rel=0.15)  # of normal noise, exp(2 x) is the likelihood
    loud = evaluate([task], {"intent": 4 * logits}, texts)["intent"]
    calm = evaluate([task], {"intent": 4 * logits}, texts, {"intent": temperature})["intent"]
    assert calm["ece"] < 0.03 < loud["ece"]
    sure, unsure = np.tile([9.0, 0, 0], (50, 1)), np.tile([1.0, 0, 0], (50, 1))
    rows = probabilities(task, np.concatenate([sure, unsure]).astype(np.float32))
    mixed = np.concatenate([np.tile([1, 0, 0], (50, 1)), np.full((50, 3), 1 / 3)]).astype(np.float32)
    assert rows[60].max() < fit_scope_threshold(rows, mixed) <= rows[0].max()


def test_edits_leave_the_ends_and_at_least_one_token() -> None:
    for seed in range(50):
        edited = edit_tokens([2, 7, 8, 9, 3], 0.9, np.random.default_rng(seed), 4)
        assert (edited[0], edited[-1]) == (2, 3)
        assert len(edited) >= 3
        assert set(edited) <= {2, 3, 4, 7, 8, 9}


def test_synonyms_stand_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_text("cheap,inexpensive\n")
    table = read_synonyms(path)
    assert exchange_synonyms("A cheap one", table, 0.999, np.random.default_rng(0)) == "A inexpensive one"
    path.write_text("lonely\n")
    with pytest.raises(InputError, match="two or more words"):
        read_synonyms(path)


def test_neighbours_and_near_copies_are_found() -> None:
    vectors = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)
    assert knn_accuracy(vectors, np.repeat([0, 1], 20)) == 1.0
    assert far_apart(vectors, list(range(40)), 5) == [0, 20]


def test_an_embedding_that_fell_is_told_with_its_figures() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    before = np.eye(8, dtype=np.float32)[labels]
    lost = random.normal(size=(60, 8)).astype(np.float32)
    lost /= np.linalg.norm(lost, axis=1, keepdims=True)
    texts = LabelledTexts([""] * 60, {"intent": one_hot(labels.tolist(), 3)})
    assert compare_embeddings(before, before, texts).fault() == ""
    assert "k-NN accuracy 1.0 before" in compare_embeddings(before, lost, texts).fault()
    unlabelled = LabelledTexts([""] * 60, {})
    assert "cosine to before" in compare_embeddings(before, lost, unlabelled).fault()
    narrow = compare_embeddings(before, before[:, :3], texts, np.eye(8, 3, dtype=np.float32))
    assert (narrow.cosine, narrow.knn_after) == (1.0, 1.0)


def test_a_run_whose_embedding_fell_fails_unless_that_is_accepted(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.cli.main import main

    wild = "--tasks topics --epochs 8 --rate 0.05 --hold_embedding 0 --max_length 16 --no_bf16 --threads 1"
    asked = ["train", "--base", str(folder), "--data", str(data), *wild.split(), "--output"]
    assert main([*asked, str(tmp_path / "refused")]) == 1
    assert "livelist: the embedding moved: cosine to before" in capsys.readouterr().err
    assert main([*asked, str(tmp_path / "taken"), "--accept_embedding"]) == 0
    assert "next: livelist export" in capsys.readouterr().out
