"""From a trained model to a published artefact: quantized, checked against torch, measured, then written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from models.encoder.artefact import Artefact, content_hash
from models.encoder.encoders import open_encoder
from models.encoder.store import write_artefact
from models.encoder.tokens import EncoderInput, TextEncoder
from models.errors import DeploymentError
from models.export.calibration import choose_scales
from models.export.checkpoint import Bert, Floats, Linear, bert_of
from models.export.dynamic import quantize_dynamic_int8
from models.export.graph import CONTRIB, OPSET, GraphWriter, QuantizedEncoder
from models.export.outputs import GraphHead, LogitFusion, add_outputs
from models.export.torch_graph import TORCH_OPSET, ServedModel, export_torch
from models.training.checkpoint import HeadNotes
from models.training.evaluation import task_metrics
from models.training.network import Base, FeedbackModel
from models.training.tasks import INTENSITY, INTENT, SENTIMENT, TOPICS, LabelledTexts, Task, parse_feature

Quantize = Literal["none", "fp16", "int8"]
#: Task -> the output that serves it. Tasks of other names only help the training.
SERVED = {SENTIMENT: "sentiment", INTENSITY: "intensity", TOPICS: "topics", INTENT: "intents"}
KINDS = {SENTIMENT: "classes", INTENSITY: "number", TOPICS: "labels", INTENT: "classes"}
PRECISIONS = {"none": "fp32", "fp16": "fp16", "int8": "int8"}
#: The least mean cosine of the embeddings to torch's, and the largest difference of a probability's mean.
LEAST_COSINE = {"none": 0.99999, "fp16": 0.9995, "int8": 0.98}
MOST_DIFFERENCE = {"none": 1e-3, "fp16": 1e-2, "int8": 0.05}
CHECK_TEXTS = 200
SHORT_TEXT = 40  # characters
CALIBRATION_TEXTS = 250
MAX_LENGTH = 256
INVARIANCE = 1e-6


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What to make of a model. `description` holds further keys of the manifest, for people."""

    quantize: Quantize = "int8"
    name: str = ""
    max_length: int = MAX_LENGTH
    languages: tuple[str, ...] = ()
    description: Mapping[str, object] = field(default_factory=dict)
    fusions: Mapping[str, LogitFusion] = field(default_factory=dict)  # by task, applied to the logits
    ngrams: Mapping[str, object] | None = None  # the manifest's, when a fusion reads `ngram_ids`


#: What the outputs should be, by name, for texts; torch's in float32 unless another is given.
Reference = Callable[[Sequence[str]], dict[str, Floats]]


@dataclass(frozen=True, slots=True)
class _Built:
    model: bytes
    inputs: tuple[str, ...]
    opset: dict[str, int]
    quantization: str


def export_model(
    model: FeedbackModel,
    base: Base,
    notes: HeadNotes,
    texts: Sequence[str],
    folder: Path,
    plan: ExportPlan,
    validation: LabelledTexts | None = None,
    reference: Reference | None = None,
) -> Artefact:
    """Writes one verified artefact.

    `texts` look like those to be scored: int8 scales are chosen on some of them, and the outputs are
    compared with torch's on others. With `validation` the manifest holds the metrics before and after.
    Raises DeploymentError, and publishes nothing, when the outputs are not torch's.
    """
    tasks = served_tasks(model.tasks)
    calibration, check = split_texts(texts)
    max_length = min(plan.max_length, base.most_tokens)
    built = _build(model, base, notes, tasks, calibration, plan, max_length)
    manifest = _manifest(model, base, notes, tasks, built, plan, max_length)
    served = ServedModel(model, tasks, dict(notes.temperatures))
    expected = reference or torch_reference(served, base, max_length)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export.", dir=folder.parent) as scratch:
        trial = write_artefact(Path(scratch) / "trial", built.model, base.tokenizer_json, manifest)
        figures = _check(trial, expected, check, plan.quantize)
        if validation is not None and len(validation):
            figures["before"] = _measure(tasks, expected(validation.texts), validation)
            figures["after"] = _measure(tasks, run_artefact(trial, validation.texts), validation)
    manifest["batch_invariant"] = figures.pop("batch_invariant")
    manifest["metrics"] = {**_described_metrics(plan.description), **figures}
    return write_artefact(folder, built.model, base.tokenizer_json, manifest)


def served_tasks(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks that have an output, in the order of the manifest's; they must be of the output's kind."""
    chosen = tuple(task for name in SERVED for task in tasks if task.name == name)
    for task in chosen:
        if task.kind != KINDS[task.name]:
            raise DeploymentError(f"task {task.name}: expected a head of {KINDS[task.name]}, got {task.kind}")
    return chosen


def split_texts(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Texts for the scales (even places, short ones besides: they differ most) and for the check (odd)."""
    useful = [text for text in dict.fromkeys(texts) if text.strip()]
    if len(useful) < 8:
        raise DeploymentError(
            f"expected 8 texts or more like those to be scored, got {len(useful)}: give them with --data"
        )
    even, odd = useful[::2], useful[1::2]
    short = [text for text in even if len(text) < SHORT_TEXT]
    return spread(even, CALIBRATION_TEXTS) + spread(short, CALIBRATION_TEXTS), spread(odd, CHECK_TEXTS)


def spread(texts: Sequence[str], count: int) -> list[str]:
    """At most `count` texts at even distances."""
    if len(texts) <= count:
        return list(texts)
    return [texts[i] for i in np.linspace(0, len(texts) - 1, count).astype(int).tolist()]


def _build(
    model: FeedbackModel, base: Base, notes: HeadNotes, tasks: Sequence[Task],
    calibration: Sequence[str], plan: ExportPlan, max_length: int,
) -> _Built:  # fmt: skip
    if plan.quantize == "int8":
        try:
            bert = bert_of(model.encoder)
        except DeploymentError as reason:
            if plan.fusions:
                raise
            served = ServedModel(model, tasks, dict(notes.temperatures))
            return _Built(
                quantize_dynamic_int8(export_torch(served, [SERVED[t.name] for t in tasks], False)),
                ("input_ids", "attention_mask"), {"ai.onnx": TORCH_OPSET, CONTRIB: 1},
                f"dynamic int8 per column ({reason}): a text's result depends on the texts beside it",
            )  # fmt: skip
        ids = base.tokenizer(max_length).encode(calibration)
        return _build_q8(model, bert, ids, notes, tasks, plan)
    if plan.fusions:
        raise DeploymentError("a model with n-grams is exported with --quantize int8 only")
    served = ServedModel(model, tasks, dict(notes.temperatures))
    return _Built(
        export_torch(served, [SERVED[task.name] for task in tasks], plan.quantize == "fp16"),
        ("input_ids", "attention_mask"), {"ai.onnx": TORCH_OPSET}, plan.quantize,
    )  # fmt: skip


def _build_q8(
    model: FeedbackModel, bert: Bert, ids: Sequence[Sequence[int]], notes: HeadNotes,
    tasks: Sequence[Task], plan: ExportPlan,
) -> _Built:  # fmt: skip
    graph = GraphWriter()
    states = QuantizedEncoder(graph, bert, choose_scales(bert, ids)).hidden_states()
    heads = [graph_head(model, task, notes, plan.fusions.get(task.name)) for task in tasks]
    widths = {"embedding": bert.hidden} | add_outputs(graph, states, heads)
    inputs = ("input_ids", "ngram_ids") if plan.ngrams is not None else ("input_ids",)
    onnx_model = graph.model({name: ("batch", width) for name, width in widths.items()}, inputs)
    return _Built(
        bytes(onnx_model.SerializeToString()), inputs, {"ai.onnx": OPSET, CONTRIB: 1},
        "int8 weights per column; uint8 activations, static scales or one a token",
    )  # fmt: skip


def graph_head(
    model: FeedbackModel, task: Task, notes: HeadNotes, fusion: LogitFusion | None = None
) -> GraphHead:
    """A trained head in the form that `add_outputs` takes."""
    head = model.heads[task.name]
    weight = np.ascontiguousarray(head.weight.detach().float().cpu().numpy().T)
    return GraphHead(
        output=SERVED[task.name],
        features=tuple(parse_feature(feature) for feature in task.features),
        linear=Linear(weight, head.bias.detach().float().cpu().numpy()),
        activation="softmax" if task.kind == "classes" else "sigmoid",
        temperature=float(notes.temperatures.get(task.name, 1.0)),
        fusion=fusion,
    )


def _manifest(
    model: FeedbackModel, base: Base, notes: HeadNotes, tasks: Sequence[Task],
    built: _Built, plan: ExportPlan, max_length: int,
) -> dict[str, object]:  # fmt: skip
    manifest: dict[str, object] = {
        "name": plan.name or notes.name or Path(base.name).name,
        "inputs": list(built.inputs),
        "outputs": ["embedding", *(SERVED[task.name] for task in tasks)],
        "precision": PRECISIONS[plan.quantize],
        "dimension": int(model.encoder.config.hidden_size),
        "max_length": max_length,
        "languages": list(plan.languages or notes.languages),
        "vocabulary": base.tokenizer(max_length).vocabulary,
        "opset": built.opset,
        "quantization": built.quantization,
        "tokenizer_sha256": content_hash(base.tokenizer_json.encode()),
        **plan.description,
    }
    if unserved := [task.name for task in model.tasks if task.name not in SERVED]:
        manifest["not_served"] = unserved  # heads that helped the training and have no output
    labels = {task.name: list(task.labels) for task in tasks}
    if SENTIMENT in labels:
        manifest["sentiment_labels"] = labels[SENTIMENT]
    if TOPICS in labels:
        manifest["topics"] = {"names": labels[TOPICS], "thresholds": 0.5}
    if INTENT in labels:
        manifest["intents"] = {"names": labels[INTENT], "thresholds": round(notes.intent_threshold, 4)}
    if plan.ngrams is not None:
        manifest["ngrams"] = dict(plan.ngrams)
    return manifest


def _described_metrics(description: Mapping[str, object]) -> dict[str, object]:
    given = description.get("metrics")
    return dict(given) if isinstance(given, dict) else {}


def torch_reference(served: ServedModel, base: Base, max_length: int) -> Reference:
    """What torch gives in float32, each text at its exact length."""
    tokenizer = base.tokenizer(max_length)
    names = ["embedding", *(SERVED[task.name] for task in served.tasks)]

    def run(texts: Sequence[str]) -> dict[str, Floats]:
        device = next(served.parameters()).device
        rows = []
        served.eval()
        with torch.inference_mode():
            for ids in tokenizer.encode(texts):
                batch = torch.tensor([ids], device=device)
                rows.append([value.cpu().numpy() for value in served(batch, torch.ones_like(batch))])
        return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(names)}

    return run


def run_artefact(artefact: Artefact, texts: Sequence[str]) -> dict[str, Floats]:
    """What an artefact gives, through the session that serves it."""
    inputs = TextEncoder(artefact).encode(texts)
    session = open_encoder(artefact)
    rows: list[dict[str, Floats]] = [{}] * len(inputs)
    for group in session.plan(inputs):
        for place, output in zip(group, session.run([inputs[i] for i in group]), strict=True):
            rows[place] = {name: getattr(output, name) for name in artefact.contract.outputs}
    return {name: np.stack([row[name] for row in rows]) for name in artefact.contract.outputs}


def _check(artefact: Artefact, expected: Reference, texts: Sequence[str], how: Quantize) -> dict[str, object]:
    """Compares with torch on texts that the scales were not chosen on; raises when they are far apart."""
    wanted, got = expected(texts), run_artefact(artefact, texts)
    cosines = (wanted["embedding"] * got["embedding"]).sum(axis=1)
    differences = {
        name: np.abs(wanted[name] - got[name]) for name in artefact.contract.outputs if name != "embedding"
    }
    worst = max((float(each.mean()) for each in differences.values()), default=0.0)
    if not cosines.mean() >= LEAST_COSINE[how] or not worst <= MOST_DIFFERENCE[how]:
        raise DeploymentError(
            f"the exported model is not torch's: mean cosine {cosines.mean():.5f} (expected "
            f"{LEAST_COSINE[how]} or more), mean difference of a head {worst:.5f} (expected "
            f"{MOST_DIFFERENCE[how]} or less); nothing was published. Give more texts like yours with --data"
        )
    return {
        "cosine_to_fp32": {
            "mean": round(float(cosines.mean()), 5),
            "p1": round(float(np.quantile(cosines, 0.01)), 5),
            "least": round(float(cosines.min()), 5),
        },
        "largest_difference": {name: round(float(each.max()), 5) for name, each in differences.items()},
        "checked_texts": len(texts),
        "batch_invariant": _is_batch_invariant(artefact, texts),
    }


def _is_batch_invariant(artefact: Artefact, texts: Sequence[str]) -> bool:
    """Whether texts of one length give the same together as alone, to 1e-6."""
    inputs, session = TextEncoder(artefact).encode(texts), open_encoder(artefact)
    alike: dict[tuple[int, int], list[EncoderInput]] = {}
    for features in inputs:
        alike.setdefault((len(features.ids), len(features.ngrams)), []).append(features)
    group = max(alike.values(), key=len)[:8]
    if len(group) < 2:  # nothing was compared: int8 is the one that has to prove it
        return artefact.contract.precision != "int8"
    pairs = zip(session.run(group), (session.run([each])[0] for each in group), strict=True)
    return all(
        float(np.abs(getattr(a, name) - getattr(b, name)).max()) <= INVARIANCE
        for a, b in pairs
        for name in artefact.contract.outputs
    )


def _measure(
    tasks: Sequence[Task], given: Mapping[str, Floats], validation: LabelledTexts
) -> dict[str, dict[str, float]]:
    figures = {}
    for task in tasks:
        known = validation.known(task.name)
        if known.any():
            metrics = task_metrics(
                task, given[SERVED[task.name]][known], validation.targets[task.name][known]
            )
            figures[task.name] = {name: round(value, 4) for name, value in metrics.items()}
    return figures
