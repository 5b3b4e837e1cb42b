"""Int8 for architectures that our own graph does not know: ONNX Runtime's dynamic quantization."""

from __future__ import annotations

import tempfile
from pathlib import Path


def quantize_dynamic_int8(model: bytes) -> bytes:
    """Per-column int8 weights, activations rounded with one scale a tensor when the model runs.

    A scale of a whole tensor depends on every text of a batch: serve such a model one text a call.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "float.onnx", Path(scratch) / "int8.onnx"
        source.write_bytes(model)
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
        return target.read_bytes()
