"""A model artefact on disk: one folder, verified before it is used.

    model.onnx       one file without external data
    tokenizer.json   of the `tokenizers` package; it adds the special tokens; it neither pads nor cuts
    manifest.json    the keys below

| key | value | absent |
|---|---|---|
| format | 2. In 1 the keys marked 1 may be absent, and its version covers the files alone | refused |
| version | 12 hexadecimal digits over the hashes of the files and the keys marked * | refused |
| files | {name: {"sha256": ..., "bytes": ...}} of model.onnx and tokenizer.json | refused |
| name | of the model, for people | "" |
| inputs * | of `input_ids`, `attention_mask`, `ngram_ids` | ["input_ids"] (1) |
| outputs * | of `embedding`, `sentiment`, `intensity`, `topics`, `intents` | the first three (1) |
| precision * | "int8", "fp16" or "fp32": what the matrices are multiplied in | "int8" (1) |
| dimension * | of the embedding | refused |
| max_length * | tokens, special tokens included | refused |
| languages * | BCP 47 primary tags the heads were taught; other texts get a low confidence | [] |
| sentiment_labels * | negative, neutral, positive; or 2, 4 or 5 names, worst first | `labels` (1) |
| topics * | {"names": [...], "thresholds": one or a list, "replace": false} | no such head |
| intents * | the same, and "out_of_scope": [names that mean none of these] | no such head |
| ngrams * | {"algorithm", "buckets", "min_n", "max_n", "scope"}, with `ngram_ids` | no such input |
| vocabulary * | number of tokens in the tokenizer, added ones included | not checked |
| probes | [{"text", "input_ids", "embedding", "sentiment"}], as given at the export | not checked |

`models.encoder.store.write_artefact` makes format, version, files and probes, and checks that the parts fit.
`not_served` names the heads that were trained and have no output: a rating, say, is told by polarity and
intensity. Everything else (base_model, training_data, metrics, opset, quantization, ...) is for people.

Inputs are int64 with free axes: `input_ids` and `attention_mask` (batch, tokens), 1 for a token and 0 for
padding; `ngram_ids` (batch, ngrams) of models/encoder/ngrams.py, 0 to `buckets` - 1, no column for a text
without any. A graph without `attention_mask` gets one text a call at its exact length, or texts of equal
length; one with it also padded batches, whose `ngram_ids` are padded with `buckets`: that must add nothing.

Outputs are float32 or float16, (batch, width), and no others may exist: `embedding` of unit length;
`sentiment` probabilities over `sentiment_labels` that sum to 1, any temperature already applied; `intensity`
in [0, 1], width 1, the strength of feeling (without it, |polarity|); `topics` independent probabilities;
`intents` probabilities that sum to 1. A row must not depend on the other rows of its batch. Without
`sentiment` every polarity is 0 with confidence 0. A head's labels that reach their threshold stand before
those that a deployment's catalogue finds by embedding; with `replace` the catalogue is not consulted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from models.encoder.manifest import SENTIMENT_LABELS, GraphContract, read_contract
from models.errors import DeploymentError

__all__ = [
    "Artefact",
    "DEFAULT_MODEL_PATH",
    "SENTIMENT_LABELS",
    "content_hash",
    "content_version",
    "load_artefact",
    "read_manifest",
]

#: The model that ships with the project.
DEFAULT_MODEL_PATH: Final = Path(__file__).resolve().parents[1] / "default"

MANIFEST_NAME: Final = "manifest.json"
MODEL_NAME: Final = "model.onnx"
TOKENIZER_NAME: Final = "tokenizer.json"
FORMAT: Final = 2
_READABLE: Final = (1, FORMAT)
#: The keys that change what a text gets, so that they are part of the version.
CONTRACT_KEYS: Final = (
    "inputs", "outputs", "precision", "dimension", "max_length", "languages", "sentiment_labels",
    "topics", "intents", "ngrams", "vocabulary",
)  # fmt: skip

# How a tensor of an ONNX file names another file: a StringStringEntryProto with the key "location".
_EXTERNAL_DATA: Final = b"\x0a\x08location\x12"


@dataclass(frozen=True, slots=True)
class Probe:
    """What the graph gave for one text when it was exported."""

    text: str
    input_ids: tuple[int, ...]
    embedding: tuple[float, ...]
    sentiment: tuple[float, ...]  # empty without that head


@dataclass(frozen=True, slots=True)
class Artefact:
    """A verified artefact: its bytes are those the manifest promises."""

    path: Path
    name: str
    version: str  # short hash of the contents; names every row this model made
    contract: GraphContract
    probes: tuple[Probe, ...]
    model: bytes
    tokenizer: str
    size: int  # bytes of the model and the tokenizer

    @property
    def dimension(self) -> int:
        """Of the embedding."""
        return self.contract.dimension

    @property
    def max_length(self) -> int:
        """Tokens, special tokens included."""
        return self.contract.max_length

    @property
    def languages(self) -> frozenset[str]:
        """What the heads were taught."""
        return self.contract.languages

    def without_weights(self) -> Artefact:
        """The same description without the bytes, for those who keep it beside a loaded session."""
        return replace(self, model=b"", tokenizer="")


def content_hash(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def content_version(file_hashes: Mapping[str, str], contract: Mapping[str, object] | None = None) -> str:
    """The artefact's version: 12 hexadecimal digits over its files' names and hashes, and its contract.

    `contract` is the manifest, of which only CONTRACT_KEYS count; None for format 1, which had none.
    """
    lines = "".join(f"{name} {file_hashes[name]}\n" for name in sorted(file_hashes))
    if contract is not None:
        chosen = {key: contract[key] for key in CONTRACT_KEYS if key in contract}
        lines += json.dumps(chosen, sort_keys=True)
    return content_hash(lines.encode())[:12]


def load_artefact(path: str | Path) -> Artefact:
    """Reads and verifies an artefact folder.

    Raises DeploymentError when a file is missing, damaged, of another format, or refers to external data.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    hashes = _file_hashes(folder, manifest)
    model = _read_verified(folder / MODEL_NAME, hashes)
    tokenizer = _read_verified(folder / TOKENIZER_NAME, hashes)
    if _EXTERNAL_DATA in model:
        raise DeploymentError(
            f"{folder / MODEL_NAME} keeps weights in another file; export it without external data"
        )
    where = str(folder / MANIFEST_NAME)
    version = content_version(hashes, None if manifest["format"] == 1 else manifest)
    if manifest.get("version") != version:
        raise DeploymentError(
            f"{where} says version {manifest.get('version')!r}, "
            f"but its files and contract make {version!r}; export the artefact again"
        )
    return Artefact(
        path=folder,
        name=str(manifest.get("name", "")),
        version=version,
        contract=read_contract(manifest, where),
        probes=_probes(manifest, where),
        model=model,
        tokenizer=tokenizer.decode("utf-8"),
        size=len(model) + len(tokenizer),
    )


def read_manifest(folder: str | Path) -> dict[str, object]:
    """The manifest of an artefact folder as it stands, without looking at the other files.

    Raises DeploymentError when it is absent or not a manifest of a format known here.
    """
    path = Path(folder) / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DeploymentError(
            f"no model at {Path(folder)}: {MANIFEST_NAME} is missing; give the folder of an exported artefact"
        ) from None
    except (OSError, ValueError) as error:
        raise DeploymentError(f"cannot read {path}: {error}; export the artefact again") from None
    if not isinstance(manifest, dict) or manifest.get("format") not in _READABLE:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise DeploymentError(f"{path}: expected an artefact of format {FORMAT}, got {found!r}")
    return manifest


def _file_hashes(folder: Path, manifest: Mapping[str, object]) -> dict[str, str]:
    files = manifest.get("files")
    hashes = (
        {str(name): str(entry.get("sha256")) for name, entry in files.items() if isinstance(entry, dict)}
        if isinstance(files, dict)
        else {}
    )
    missing = {MODEL_NAME, TOKENIZER_NAME} - hashes.keys()
    if missing:
        raise DeploymentError(f"{folder / MANIFEST_NAME} has no hash for {', '.join(sorted(missing))}")
    return hashes


def _read_verified(path: Path, hashes: Mapping[str, str]) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DeploymentError(f"cannot read {path}: {error.strerror}; copy the artefact again") from None
    found = content_hash(content)
    if found != hashes[path.name]:
        raise DeploymentError(
            f"{path} is damaged ({len(content):,} bytes): expected SHA-256 {hashes[path.name][:12]}, "
            f"got {found[:12]}; copy the artefact again"
        )
    return content


def _probes(manifest: Mapping[str, object], where: str) -> tuple[Probe, ...]:
    entries = manifest.get("probes", [])
    try:
        if not isinstance(entries, list):
            raise TypeError(f"expected a list, got {type(entries).__name__}")
        return tuple(
            Probe(
                str(entry["text"]),
                tuple(int(one) for one in entry["input_ids"]),
                tuple(float(one) for one in entry["embedding"]),
                tuple(float(one) for one in entry.get("sentiment", ())),
            )
            for entry in entries
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DeploymentError(
            f"{where}: probes are not readable ({error!r}); export the artefact again"
        ) from None
