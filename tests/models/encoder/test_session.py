"""A session runs where it was asked to, or not at all."""

from __future__ import annotations

import dataclasses

import pytest

from models.encoder.artefact import DEFAULT_MODEL_PATH, Artefact, load_artefact
from models.encoder.encoders import open_encoder, shared_encoder
from models.encoder.session import ExactSession, require_providers
from models.errors import DeploymentError


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    return load_artefact(DEFAULT_MODEL_PATH)


def test_an_absent_provider_is_an_error_and_not_a_silent_fallback(artefact: Artefact) -> None:
    with pytest.raises(
        DeploymentError, match=r"TensorrtExecutionProvider is not in this onnxruntime; it has"
    ):
        open_encoder(artefact, ("TensorrtExecutionProvider", "CPUExecutionProvider"))


def test_no_provider_at_all_is_an_error() -> None:
    with pytest.raises(DeploymentError, match=r"\(none\)"):
        require_providers(())


def test_a_process_loads_a_model_once(artefact: Artefact) -> None:
    assert shared_encoder(artefact) is shared_encoder(load_artefact(DEFAULT_MODEL_PATH))


def test_a_file_that_is_not_onnx_is_refused(artefact: Artefact) -> None:
    with pytest.raises(DeploymentError, match="onnxruntime cannot load the model"):
        ExactSession(dataclasses.replace(artefact, model=b"not a model"))


def test_a_graph_with_other_outputs_is_refused(artefact: Artefact) -> None:
    with pytest.raises(DeploymentError, match="expected the graph to map input_ids"):
        ExactSession(
            dataclasses.replace(artefact, contract=dataclasses.replace(artefact.contract, dimension=768))
        )
