"""The whole model through torch's own exporter: float32 or float16, with a mask for padded batches."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Sequence

import onnx
import torch
from torch import nn
from torch.nn import functional

from models.training.network import FeedbackModel
from models.training.tasks import Task

TORCH_OPSET = 17


class ServedModel(nn.Module):
    """A trained model as it is served: unit embedding and probabilities, temperatures applied."""

    def __init__(self, model: FeedbackModel, tasks: Sequence[Task], temperatures: dict[str, float]) -> None:
        super().__init__()
        self.model, self.tasks, self.temperatures = model, tuple(tasks), temperatures

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`embedding`, then one output a task in their order, float32."""
        output = self.model(input_ids, attention_mask)
        outputs = [functional.normalize(output.pooled.float(), dim=-1)]
        for task in self.tasks:
            logits = output.logits[task.name].float() / self.temperatures.get(task.name, 1.0)
            outputs.append(logits.softmax(dim=-1) if task.kind == "classes" else logits.sigmoid())
        return tuple(outputs)


def export_torch(served: ServedModel, names: Sequence[str], half: bool) -> bytes:
    """One ONNX file with inputs `input_ids` and `attention_mask` (batch, tokens), both axes free.

    `names` are the outputs' without `embedding`. With `half` the weights and products are float16.
    The embedding is made unit and the heads' probabilities are made in float32.
    """
    served = copy.deepcopy(served).eval()
    if half:
        served.model.half()
    ids = torch.full((2, 6), int(served.model.encoder.config.pad_token_id or 0) + 1)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    outputs = ["embedding", *names]
    axes = {name: {0: "batch", 1: "tokens"} for name in ("input_ids", "attention_mask")}
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of tracing: lengths that it takes for constants are checked after
        torch.onnx.export(
            served, (ids, mask), buffer, dynamo=False, opset_version=TORCH_OPSET,
            input_names=["input_ids", "attention_mask"], output_names=outputs,
            dynamic_axes=axes | {name: {0: "batch"} for name in outputs},
        )  # fmt: skip
    model = onnx.load_model_from_string(buffer.getvalue())
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
