"""Chooses the static scales of the q8 graph from texts run through the float32 encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from models.export.checkpoint import Bert, Floats, Layer, Linear, Norm
from models.export.graph import LayerScales, StaticScale, early_biases, quantize_columns

SMOOTHING = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8)
ERROR_TOKENS = 2500  # on which the errors are compared; the ranges hold every token


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """What one layer multiplies by its matrices, shape (tokens, width)."""

    qkv: Floats
    context: Floats
    feed_in: Floats


def _linear(x: torch.Tensor, linear: Linear) -> torch.Tensor:
    return x @ torch.from_numpy(linear.weight) + torch.from_numpy(linear.bias)


def _norm(x: torch.Tensor, norm: Norm, epsilon: float) -> torch.Tensor:
    return functional.layer_norm(
        x, x.shape[-1:], torch.from_numpy(norm.gain), torch.from_numpy(norm.bias), epsilon
    )


def _attend(x: torch.Tensor, layer: Layer) -> torch.Tensor:
    tokens, inner = len(x), layer.inner
    query, key, value = (
        part.reshape(tokens, layer.heads, inner // layer.heads).transpose(0, 1)
        for part in _linear(x, layer.qkv).split(inner, dim=-1)
    )
    context = functional.scaled_dot_product_attention(query, key, value)
    return context.transpose(0, 1).reshape(tokens, inner)


def _run_layer(x: torch.Tensor, layer: Layer, bert: Bert) -> tuple[torch.Tensor, LayerInputs]:
    context = _attend(x, layer)
    attended = _norm(_linear(context, layer.attention_output) + x, layer.attention_norm, bert.epsilon)
    fed = _linear(functional.gelu(_linear(attended, layer.feed_in)), layer.feed_out)
    inputs = LayerInputs(x.numpy(), context.numpy(), attended.numpy())
    return _norm(fed + attended, layer.output_norm, bert.epsilon), inputs


def run_reference(bert: Bert, ids: Sequence[int]) -> Iterator[tuple[Floats, LayerInputs]]:
    """The float32 encoder on one text: for each layer its output (tokens, hidden) and its inputs."""
    with torch.inference_mode():
        words = torch.from_numpy(bert.words[list(ids)] + bert.positions[: len(ids)])
        x = _norm(words, bert.norm, bert.epsilon)
        for layer in bert.layers:
            x, inputs = _run_layer(x, layer, bert)
            yield x.numpy(), inputs


def choose_scales(bert: Bert, texts: Sequence[Sequence[int]]) -> tuple[LayerScales, ...]:
    """Static scales for every layer, from the token ids of calibration texts."""
    bert = early_biases(bert)
    runs = [[inputs for _, inputs in run_reference(bert, ids)] for ids in texts]
    return tuple(
        LayerScales(
            qkv=choose_scale(np.concatenate([run[i].qkv for run in runs]), layer.qkv.weight),
            context=choose_scale(
                np.concatenate([run[i].context for run in runs]), layer.attention_output.weight
            ),
            feed_in=choose_scale(np.concatenate([run[i].feed_in for run in runs]), layer.feed_in.weight),
        )
        for i, layer in enumerate(bert.layers)
    )


def choose_scale(inputs: Floats, weight: Floats) -> StaticScale:
    """The smoothing with the least squared error of `inputs @ weight` after rounding both.

    The range holds every input: clipping outliers looked better on average and spoilt the shortest texts.
    """
    sample = inputs[:: max(1, len(inputs) // ERROR_TOKENS)]
    exact = sample @ weight
    candidates = (_static_scale(inputs, weight, smoothing) for smoothing in SMOOTHING)
    return min(candidates, key=lambda scale: _rounding_error(sample, weight, exact, scale))


def _static_scale(inputs: Floats, weight: Floats, smoothing: float) -> StaticScale:
    """SmoothQuant's division of the difficulty (Xiao et al. 2023, equation 4), then an affine range."""
    largest = np.maximum(np.abs(inputs).max(axis=0), 1e-5)
    smooth = largest**smoothing / np.maximum(np.abs(weight).max(axis=1), 1e-5) ** (1 - smoothing)
    if smoothing == 0.0:
        smooth = np.ones_like(largest)
    smooth = (smooth / np.exp(np.mean(np.log(smooth)))).astype(np.float32)
    low, high = float((inputs / smooth).min()), float((inputs / smooth).max())
    scale = max(high - low, 1e-6) / 255
    return StaticScale(smooth, scale, int(np.clip(np.rint(-low / scale), 0, 255)))


def _rounding_error(inputs: Floats, weight: Floats, exact: Floats, scale: StaticScale) -> float:
    levels = np.clip(np.rint(inputs / scale.smooth / scale.scale) + scale.zero, 0, 255)
    rounded, columns = quantize_columns(weight * scale.smooth[:, None])
    approximate = ((levels - scale.zero) * scale.scale) @ (rounded * columns)
    return float(np.square(approximate - exact).mean())
