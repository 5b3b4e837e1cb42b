"""Batches of fixed shapes: the device path, run for real on the CPU provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoder.artefact import DEFAULT_MODEL_PATH, load_artefact
from models.encoder.encoders import open_encoder
from models.encoder.grid import CPU, CUDA, TENSORRT, WIDTHS, GridSession, ShapeGrid, provider_options
from models.encoder.ngrams import describe_ngrams
from models.encoder.session import CPU_PROVIDERS, ExactSession
from models.encoder.tokens import TextEncoder
from models.errors import DeploymentError
from tests.models.encoder.tiny import write_tiny

GRID = ShapeGrid((4, 8, 16), 32)
TEXTS = [
    "good",
    "bad zipper broke",
    "质量很好 it is the a good",
    "it is great .",
    "love",
    "好差很质量好差很质",
]
NGRAMS = {"inputs": ["input_ids", "attention_mask", "ngram_ids"], "ngrams": describe_ngrams(64)}


@given(st.integers(1, 2000))
def test_a_text_fits_its_width_and_wastes_less_than_half_of_it(tokens: int) -> None:
    grid = ShapeGrid()
    width = grid.width(tokens)
    assert width >= tokens
    assert width == WIDTHS[0] or width <= 2 * tokens
    assert grid.rows(width) >= 1
    assert grid.rows(width) * width <= max(grid.tokens_a_call, width)


@pytest.mark.parametrize("changes", [{}, {"precision": "fp16"}, NGRAMS], ids=["fp32", "fp16", "n-grams"])
def test_batches_give_what_single_exact_texts_give(tmp_path: Path, changes: dict[str, object]) -> None:
    artefact = write_tiny(tmp_path / "model", **changes)
    inputs = TextEncoder(artefact).encode(TEXTS)
    grid, exact = GridSession(artefact, CPU_PROVIDERS, GRID), ExactSession(artefact)
    tolerance = 2e-3 if artefact.contract.precision == "fp16" else 1e-6
    groups = grid.plan(inputs)
    assert sorted(i for group in groups for i in group) == list(range(len(TEXTS)))
    for group in groups:
        for i, output in zip(group, grid.run([inputs[i] for i in group]), strict=True):
            [alone] = exact.run([inputs[i]])
            assert output.embedding.dtype == np.float32
            assert np.abs(output.embedding - alone.embedding).max() < tolerance
            assert output.sentiment is not None
            assert alone.sentiment is not None
            assert np.abs(output.sentiment - alone.sentiment).max() < tolerance


@given(st.permutations(range(len(TEXTS))), st.integers(1, len(TEXTS)))
def test_neighbours_change_no_bit(order: list[int], count: int) -> None:
    session, inputs, alone = _shared()
    chosen = order[:count]
    for group in session.plan([inputs[i] for i in chosen]):
        outputs = session.run([inputs[chosen[k]] for k in group])
        for k, output in zip(group, outputs, strict=True):
            assert np.array_equal(output.embedding, alone[chosen[k]])


_made: list[tuple[GridSession, list, list]] = []  # type: ignore[type-arg]


def _shared() -> tuple[GridSession, list, list]:  # type: ignore[type-arg]
    if not _made:
        import tempfile

        artefact = write_tiny(Path(tempfile.mkdtemp()) / "model", **NGRAMS)
        session = GridSession(artefact, CPU_PROVIDERS, GRID)
        inputs = TextEncoder(artefact).encode(TEXTS)
        _made.append((session, inputs, [session.run([one])[0].embedding for one in inputs]))
    return _made[0]


def test_rows_of_a_shape_are_bound_once(tmp_path: Path) -> None:
    artefact = write_tiny(tmp_path / "model")
    session = GridSession(artefact, CPU_PROVIDERS, GRID)
    inputs = TextEncoder(artefact).encode(["good", "bad", "it is good", "the zipper broke"])
    for group in session.plan(inputs) * 3:
        session.run([inputs[i] for i in group])
    assert set(session._bound) == {(4, 0), (8, 0)}
    assert session.computed_tokens(inputs[:1]) == 32


def test_the_exact_path_serves_cpus_and_the_grid_everything_else(tmp_path: Path) -> None:
    artefact = write_tiny(tmp_path / "model")
    assert isinstance(open_encoder(artefact), ExactSession)
    with pytest.raises(DeploymentError, match=r"execution provider .* is not in this onnxruntime"):
        open_encoder(artefact, ("NoSuchExecutionProvider",))


def test_an_int8_artefact_is_refused_on_a_device() -> None:
    artefact = load_artefact(DEFAULT_MODEL_PATH)
    with pytest.raises(DeploymentError, match="needs an artefact with attention_mask"):
        GridSession(artefact, CPU_PROVIDERS)


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA")
def test_cuda_where_there_is_none_is_an_error_at_start(tmp_path: Path) -> None:
    artefact = write_tiny(tmp_path / "model", precision="fp16")
    with pytest.raises(DeploymentError, match=r"CUDAExecutionProvider is not in this .* livelist\[gpu\]"):
        open_encoder(artefact, (CUDA,))


def test_cuda_graphs_need_cuda(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="CUDA graphs need CUDAExecutionProvider"):
        GridSession(write_tiny(tmp_path / "model"), CPU_PROVIDERS, cuda_graphs=True)


def test_tensorrt_is_told_the_range_of_shapes(tmp_path: Path) -> None:
    artefact = write_tiny(tmp_path / "model", precision="fp16", max_length=32)
    options = provider_options(artefact, ShapeGrid((16, 32, 64), 128), (TENSORRT, CUDA), cuda_graphs=True)
    assert options[TENSORRT]["trt_profile_min_shapes"] == "input_ids:1x16,attention_mask:1x16"
    assert options[TENSORRT]["trt_profile_max_shapes"] == "input_ids:8x32,attention_mask:8x32"
    assert options[TENSORRT]["trt_fp16_enable"] is True
    assert options[CUDA]["enable_cuda_graph"] == 1
    assert CPU not in options


@pytest.mark.parametrize(("widths", "tokens"), [((), 8), ((8, 4), 8), ((0, 4), 8), ((4, 8), 0)])
def test_a_grid_that_makes_no_sense_is_refused(widths: tuple[int, ...], tokens: int) -> None:
    with pytest.raises(ValueError, match=r"widths must be|tokens_a_call must be"):
        ShapeGrid(widths, tokens)
