"""A whole training run: data in, a folder with the model, its figures and its card out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.encoder.language import detect_language
from models.errors import DeploymentError, InputError
from models.training import run_folder
from models.training.augment import exchange_synonyms, read_synonyms
from models.training.checkpoint import HeadNotes, load_checkpoint, save_checkpoint
from models.training.curves import write_curves
from models.training.evaluation import (
    Figures,
    evaluate,
    fit_scope_threshold,
    fit_temperature,
    predict_texts,
    probabilities,
    rounded,
    scope_metrics,
)
from models.training.labels import fold_of
from models.training.network import Base, FeedbackModel, embed_texts, load_base
from models.training.optimise import merge_lora
from models.training.quality import EmbeddingQuality, compare_embeddings
from models.training.reading import read_data, usable_text
from models.training.request import (
    LEAST_VALIDATION,
    TrainingData,
    TrainingRequest,
    claim_folder,
    describe_data,
    read_training_data,
)
from models.training.selection import most_worth_labelling, pseudo_label
from models.training.tasks import INTENT, Floats, LabelledTexts, Task, concatenate
from models.training.trainer import Later, Trainer, TrainingResult, Watcher

TO_LABEL_NAME = "to_label.jsonl"
LANGUAGE_SHARE = 0.02  # of the texts, for a language to count as taught

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to; `metrics` stands in its metrics.json."""

    metrics: dict[str, object]
    embedding: EmbeddingQuality


def train(
    request: TrainingRequest, folder: Path, watchers: Sequence[Watcher] = (), report: Report = print
) -> Trained:
    """Runs or resumes a training run in `folder`. Whether a worse embedding will do is the caller's to say.

    Raises InputError for data that cannot be learnt from, DeploymentError for a base or a package that is
    not there, OutputError when the folder holds another run.
    """
    data = read_training_data(request)
    claim_folder(folder, request, data)
    report(describe_data(data))
    folds = [_fold_score(request, data, fold, folder, report) for fold in range(request.folds)]
    base = load_base(request.base)
    model = _make_model(request, base, data.tasks)
    pieces = encode_data(request, base, data)
    before = embed_texts(base, pieces.validation.texts, request.settings.max_length)
    result = _fit(model, base, pieces, request, folder, watchers)
    notes = calibrate(model, pieces.validation, pieces.train.texts)
    if request.unlabelled:
        result, notes = _use_unlabelled(model, base, pieces, request, folder, watchers, notes, result, report)
    figures, embedding = _measure(model, pieces.validation, notes, before)
    metrics = {
        **figures, "embedding": embedding.figures(), "steps": result.steps, "best_step": result.best_step,
    }  # fmt: skip
    if folds:
        metrics["cross_validation"] = _summarise(folds)
    _write(folder, model, base, notes, metrics, result)
    return Trained(metrics, embedding)


def _make_model(request: TrainingRequest, base: Base, tasks: Sequence[Task]) -> FeedbackModel:
    """New heads, or those of the run that is the base where their tasks and labels are the same."""
    usual = ("cls", "mean") if request.settings.mode == "frozen" else ("cls",)
    chosen = [replace(task, features=request.features or usual) for task in tasks]
    import torch

    torch.manual_seed(request.settings.seed)
    model = FeedbackModel(base.encoder, chosen, request.settings.dropout)
    try:
        trained = load_checkpoint(Path(request.base))[0]
    except DeploymentError:
        return model
    for task in model.tasks:
        if task in trained.tasks:
            model.heads[task.name].load_state_dict(trained.heads[task.name].state_dict())
    return model


def encode_data(request: TrainingRequest, base: Base, data: TrainingData) -> TrainingData:
    """The data with token ids, synonyms and what the embedding is held to."""
    train, settings = data.train, request.settings
    if request.synonyms:
        table = read_synonyms(Path(request.synonyms))
        random = np.random.default_rng((settings.seed, 2))
        texts = [exchange_synonyms(text, table, request.synonym_share, random) for text in train.texts]
        changed = [i for i, text in enumerate(texts) if text != train.texts[i]]
        copies = replace(train.take(changed), texts=[texts[i] for i in changed])
        train = concatenate([train, copies]) if changed else train
    tokenizer = base.tokenizer(min(settings.max_length, base.most_tokens))
    train = train.encode(tokenizer)
    if settings.mode != "frozen" and (settings.hold_embedding or settings.contrast_embedding):
        train = train.with_embeddings(embed_texts(base, train.texts, settings.max_length))
    return replace(data, train=train, validation=data.validation.encode(tokenizer))


def _fit(
    model: FeedbackModel, base: Base, data: TrainingData, request: TrainingRequest, folder: Path,
    watchers: Sequence[Watcher],
) -> TrainingResult:  # fmt: skip
    trainer = Trainer(
        model, data.train, data.validation, request.settings, folder, watchers, mask_id=base.mask_id()
    )
    return trainer.run()


def _fit_further(
    model: FeedbackModel, base: Base, data: TrainingData, request: TrainingRequest, folder: Path,
    watchers: Sequence[Watcher], first: TrainingResult,
) -> TrainingResult:  # fmt: skip
    """As `_fit`, told as the continuation of a first fit: its steps are counted after that one's."""
    result = _fit(model, base, data, request, folder, [Later(each, first.steps) for each in watchers])
    history = [{**entry, "step": first.steps + int(str(entry["step"]))} for entry in result.history]
    return replace(
        result,
        steps=first.steps + result.steps,
        best_step=first.steps + result.best_step,
        history=[*first.history, *history],
    )


def calibrate(model: FeedbackModel, validation: LabelledTexts, texts: Sequence[str]) -> HeadNotes:
    """Temperatures and threshold from the validation texts; the languages of the training texts."""
    given = predict_texts(model, validation)
    temperatures, threshold = {}, 0.0
    for task in model.tasks:
        known = validation.known(task.name)
        if task.kind != "classes" or not known.any():
            continue
        targets, logits = validation.targets[task.name][known], given.logits[task.name][known]
        temperatures[task.name] = fit_temperature(task, logits, targets)
        if task.name == INTENT:
            threshold = fit_scope_threshold(probabilities(task, logits, temperatures[task.name]), targets)
    return HeadNotes(temperatures, threshold, taught_languages(texts))


def taught_languages(texts: Sequence[str]) -> tuple[str, ...]:
    """The languages of at least one text in fifty."""
    counts = Counter(detect_language(text) for text in texts)
    least = LANGUAGE_SHARE * len(texts)
    return tuple(sorted(tag for tag, count in counts.items() if count >= least and tag not in ("", "und")))


def _measure(
    model: FeedbackModel, validation: LabelledTexts, notes: HeadNotes, before: Floats
) -> tuple[Figures, EmbeddingQuality]:
    given = predict_texts(model, validation)
    figures = evaluate(model.tasks, given.logits, validation, notes.temperatures)
    for task in model.tasks:
        if task.name == INTENT and INTENT in figures:
            known = validation.known(INTENT)
            rows = probabilities(task, given.logits[INTENT][known], notes.temperatures.get(INTENT, 1.0))
            figures[INTENT] |= scope_metrics(rows, validation.targets[INTENT][known], notes.intent_threshold)
    return rounded(figures), compare_embeddings(before, given.embeddings, validation)


def _use_unlabelled(
    model: FeedbackModel, base: Base, data: TrainingData, request: TrainingRequest, folder: Path,
    watchers: Sequence[Watcher], notes: HeadNotes, result: TrainingResult, report: Report,
) -> tuple[TrainingResult, HeadNotes]:  # fmt: skip
    """Trains on with the texts the model is sure of, then writes those it doubts most."""
    rows, _ = read_data(request.unlabelled, {k: v for k, v in request.columns.items() if k == "text"})
    known = set(data.train.texts) | set(data.validation.texts)
    texts = [text for row in rows if (text := usable_text(row)) is not None]
    texts = [text for text in dict.fromkeys(texts) if text not in known]
    if not texts:
        raise InputError(f"{', '.join(request.unlabelled)}: no text that is not in the data already")
    tokenizer = base.tokenizer(min(request.settings.max_length, base.most_tokens))
    pool = LabelledTexts(texts, {}).encode(tokenizer)
    if request.pseudo_gate:
        model.encoder = merge_lora(model.encoder)
        sure = pseudo_label(
            model.tasks, texts, predict_texts(model, pool), notes.temperatures, request.pseudo_gate
        )
        report(f"{len(sure):,} of {len(texts):,} unlabelled texts are surer than {request.pseudo_gate:g}")
        if len(sure):
            sure = sure.encode(tokenizer)
            if data.train.embeddings is not None:
                sure = sure.with_embeddings(
                    embed_texts(load_base(request.base), sure.texts, request.settings.max_length)
                )
            more = replace(data, train=concatenate([data.train, sure]))
            result = _fit_further(model, base, more, request, folder / "pseudo_labels", watchers, result)
            notes = calibrate(model, data.validation, data.train.texts)
    if request.ask:
        chosen = most_worth_labelling(
            model.tasks, predict_texts(model, pool), notes.temperatures, request.ask
        )
        lines = [
            json.dumps({"text": texts[i], "uncertainty": doubt}, ensure_ascii=False) for i, doubt in chosen
        ]
        (folder / TO_LABEL_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")
        report(f"{folder / TO_LABEL_NAME}: the {len(chosen):,} texts most worth labelling")
    return result, notes


def _fold_score(
    request: TrainingRequest, data: TrainingData, fold: int, folder: Path, report: Report
) -> dict[str, float]:
    """One model of the cross-validation: its main figures on the fold it did not see."""
    place = folder / f"fold_{fold}.json"
    if place.is_file():
        known: dict[str, float] = json.loads(place.read_text(encoding="utf-8"))
        return known
    everything = concatenate([data.train, data.validation])
    held = np.array(
        [fold_of(text, request.folds, request.settings.seed) == fold for text in everything.texts]
    )
    if held.sum() < LEAST_VALIDATION or (~held).sum() < LEAST_VALIDATION:
        raise InputError(f"{len(everything)} texts are too few for {request.folds} folds")
    base = load_base(request.base)
    model = _make_model(request, base, data.tasks)
    part = encode_data(
        request, base, replace(data, train=everything.take(~held), validation=everything.take(held))
    )
    scratch = folder / f"fold_{fold}"
    settings = replace(request.settings, keep_best=False, patience=0)
    Trainer(model, part.train, None, settings, scratch).run()
    given = predict_texts(model, part.validation)
    figures = evaluate(model.tasks, given.logits, part.validation)
    flat = {f"{t}/{k}": v for t, values in figures.items() for k, v in values.items() if k != "texts"}
    run_folder.write_json(place, flat)
    _remove_state(scratch)
    report(f"fold {fold + 1} of {request.folds}: " + ", ".join(f"{k} {v:.3f}" for k, v in flat.items()))
    return flat


def _remove_state(folder: Path) -> None:
    if folder.is_dir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def _summarise(folds: Sequence[Mapping[str, float]]) -> dict[str, object]:
    """Mean and standard deviation over the folds."""
    names = dict.fromkeys(name for fold in folds for name in fold)
    values = {name: [fold[name] for fold in folds if name in fold] for name in names}
    return {
        name: {"mean": round(float(np.mean(v)), 4), "sd": round(float(np.std(v)), 4), "folds": len(v)}
        for name, v in values.items()
    }


def _write(
    folder: Path, model: FeedbackModel, base: Base, notes: HeadNotes, metrics: Mapping[str, object],
    result: TrainingResult,
) -> None:  # fmt: skip
    """Everything that stays; metrics.json last, because it says that the run is finished."""
    named = replace(notes, name=folder.name)
    save_checkpoint(folder / "checkpoint", model, base, named)
    write_curves(folder, model.tasks, result.history)
    run_folder.write_card(folder, model.tasks, metrics)
    run_folder.write_json(folder / run_folder.METRICS_NAME, metrics)
    _remove_state(folder / "pseudo_labels")
    (folder / "training_state.pt").unlink(missing_ok=True)
