"""Batched artefacts on a device: padded batches whose shapes come from a small fixed grid.

Every width of the grid has one number of rows, so a text always meets the same shape, whatever stands
beside it. Kernels are chosen by shape: its result does not depend on its neighbours, device memory is bound
once a shape, and a CUDA graph of each can be replayed.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.encoder.artefact import Artefact
from models.encoder.manifest import ATTENTION_MASK, INPUT_IDS, NGRAM_IDS
from models.encoder.session import EncoderOutput, open_session, require_providers, split_rows
from models.encoder.tokens import EncoderInput
from models.errors import DeploymentError

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
WIDTHS: Final = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
#: Padded tokens of a call: enough work to fill a large GPU for some milliseconds.
TOKENS_A_CALL: Final = 16_384

Shape = tuple[int, int]  # tokens a row, n-grams a row (0: the graph reads none)
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ShapeGrid:
    """Which shape a text has, and how many of them share a call."""

    widths: tuple[int, ...] = WIDTHS
    tokens_a_call: int = TOKENS_A_CALL

    def __post_init__(self) -> None:
        if not self.widths or list(self.widths) != sorted(set(self.widths)) or self.widths[0] < 1:
            raise ValueError(f"widths must be positive and ascending, got {self.widths}")
        if self.tokens_a_call < 1:
            raise ValueError(f"tokens_a_call must be at least 1, got {self.tokens_a_call}")

    def width(self, tokens: int) -> int:
        """The least width that holds so many tokens; beyond the grid, multiples of its last."""
        last = self.widths[-1]
        return next((width for width in self.widths if width >= tokens), -(-tokens // last) * last)

    def rows(self, width: int) -> int:
        """How many texts of a width share a call."""
        return max(1, self.tokens_a_call // width)


class GridSession:
    """Fixed shapes with bound memory. Calls take turns: the device is one."""

    def __init__(
        self,
        artefact: Artefact,
        providers: Sequence[str],
        grid: ShapeGrid | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        """`cuda_graphs` replays one graph a shape; only for CUDAExecutionProvider as the first provider.

        Raises DeploymentError when the artefact cannot be batched or a provider does not start.
        """
        require_providers(providers)
        if not artefact.contract.batched:
            raise DeploymentError(
                f"{artefact.path}: {', '.join(providers)} needs an artefact with attention_mask, got one of "
                f"{', '.join(artefact.contract.inputs)}; export one with --quantize fp16, or run on {CPU}"
            )
        if cuda_graphs and providers[0] != CUDA:
            raise DeploymentError(f"CUDA graphs need {CUDA}, got {', '.join(providers)}")
        self.artefact = artefact.without_weights()
        self._grid = grid or ShapeGrid()
        self._device = "cpu" if providers[0] == CPU else "cuda"
        self._cuda_graphs = cuda_graphs
        self._session = open_session(
            artefact, providers, provider_options(artefact, self._grid, providers, cuda_graphs)
        )
        self._outputs = artefact.contract.outputs
        self._bound: dict[Shape, _BoundShape] = {}
        self._turn = threading.Lock()

    def plan(self, inputs: Sequence[EncoderInput]) -> list[list[int]]:
        """Groups of one shape, the widest first."""
        alike: dict[Shape, list[int]] = defaultdict(list)
        for i, features in enumerate(inputs):
            alike[self._shape(features)].append(i)
        groups = []
        for (width, _), places in sorted(alike.items(), reverse=True):
            rows = self._grid.rows(width)
            groups += [places[k : k + rows] for k in range(0, len(places), rows)]
        return groups

    def computed_tokens(self, inputs: Sequence[EncoderInput]) -> int:
        """The whole shape."""
        width, _ = self._shape(inputs[0])
        return width * self._grid.rows(width)

    def run(self, inputs: Sequence[EncoderInput]) -> list[EncoderOutput]:
        """One call for texts of one shape; missing rows repeat the first."""
        shape = self._shape(inputs[0])
        rows = self._grid.rows(shape[0])
        full = [*inputs, *[inputs[0]] * (rows - len(inputs))]
        feed = self._feed(full, shape)
        with self._turn:
            if shape not in self._bound:
                self._bound[shape] = self._bind(feed, rows)
            values = self._bound[shape].run(self._session, feed)
        return split_rows(self._outputs, values, len(inputs))

    def _shape(self, features: EncoderInput) -> Shape:
        reads = NGRAM_IDS in self.artefact.contract.inputs
        ngrams = 1 << (max(1, len(features.ngrams)) - 1).bit_length() if reads else 0
        return self._grid.width(len(features.ids)), ngrams

    def _feed(self, inputs: Sequence[EncoderInput], shape: Shape) -> dict[str, Ids]:
        width, ngrams = shape
        spec = self.artefact.contract.ngrams
        feed = {INPUT_IDS: np.zeros((len(inputs), width), np.int64)}
        feed[ATTENTION_MASK] = np.zeros_like(feed[INPUT_IDS])
        if spec is not None:
            feed[NGRAM_IDS] = np.full((len(inputs), ngrams), spec.buckets, np.int64)
        for row, features in enumerate(inputs):
            feed[INPUT_IDS][row, : len(features.ids)] = features.ids
            feed[ATTENTION_MASK][row, : len(features.ids)] = 1
            if spec is not None:
                feed[NGRAM_IDS][row, : len(features.ngrams)] = features.ngrams
        return feed

    def _bind(self, feed: Mapping[str, Ids], rows: int) -> _BoundShape:
        types = {node.name: _NUMPY_TYPES[node.type] for node in self._session.get_outputs()}
        widths = self.artefact.contract.widths()
        outputs = {name: ((rows, widths[name]), types[name]) for name in self._outputs}
        graph = len(self._bound) + 1 if self._cuda_graphs else None
        return _BoundShape(self._session, feed, outputs, self._device, graph)


_NUMPY_TYPES: Final[dict[str, type[np.floating[Any]]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}


class _BoundShape:
    """Memory of one shape on the device, bound for as long as the session lives."""

    def __init__(
        self,
        session: Any,
        feed: Mapping[str, Ids],
        outputs: Mapping[str, tuple[Shape, type[np.floating[Any]]]],
        device: str,
        graph: int | None,
    ) -> None:
        make = onnxruntime.OrtValue
        self._inputs = {name: make.ortvalue_from_numpy(array, device, 0) for name, array in feed.items()}
        self._outputs = [
            make.ortvalue_from_shape_and_type(shape, kind, device, 0) for shape, kind in outputs.values()
        ]
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in zip(outputs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, value)
        self._options = onnxruntime.RunOptions()
        if graph is not None:
            self._options.add_run_config_entry("gpu_graph_id", str(graph))

    def run(self, session: Any, feed: Mapping[str, Ids]) -> list[NDArray[Any]]:
        """Copies the feed to the device, runs, and copies the outputs back."""
        for name, array in feed.items():
            self._inputs[name].update_inplace(array)
        self._binding.synchronize_inputs()
        session.run_with_iobinding(self._binding, self._options)
        self._binding.synchronize_outputs()
        return [np.array(value.numpy()) for value in self._outputs]


def provider_options(
    artefact: Artefact, grid: ShapeGrid, providers: Sequence[str], cuda_graphs: bool
) -> dict[str, dict[str, object]]:
    """What each provider is told; TensorRT gets the range of the grid's shapes, so that it builds once."""
    widths = [width for width in grid.widths if width <= grid.width(artefact.max_length)]
    least, most = widths[0], widths[-1]
    batched = [name for name in artefact.contract.inputs if name != NGRAM_IDS]

    def shapes(rows: int, width: int) -> str:
        return ",".join(f"{name}:{rows}x{width}" for name in batched)

    options: dict[str, dict[str, object]] = {
        CUDA: {"enable_cuda_graph": int(cuda_graphs), "use_tf32": 0},
        TENSORRT: {
            "trt_fp16_enable": artefact.contract.precision == "fp16",
            "trt_profile_min_shapes": shapes(1, least),
            "trt_profile_opt_shapes": shapes(grid.rows(128), 128),
            "trt_profile_max_shapes": shapes(grid.rows(least), most),
        },
    }
    if NGRAM_IDS in artefact.contract.inputs:  # their number has no bound, so no profile can be given
        options[TENSORRT] = {"trt_fp16_enable": artefact.contract.precision == "fp16"}
    return {name: options[name] for name in providers if name in options}
