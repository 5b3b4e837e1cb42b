"""A model artefact on disk: one folder with a manifest, verified before it is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import DeploymentError

#: The model that ships with the project.
DEFAULT_MODEL_PATH: Final = Path(__file__).resolve().parents[1] / "default"

MANIFEST_NAME: Final = "manifest.json"
MODEL_NAME: Final = "model.onnx"
TOKENIZER_NAME: Final = "tokenizer.json"
FORMAT: Final = 1
SENTIMENT_LABELS: Final = ("negative", "neutral", "positive")

# How a tensor of an ONNX file names another file: a StringStringEntryProto with the key "location".
_EXTERNAL_DATA: Final = b"\x0a\x08location\x12"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A verified artefact: its bytes are those the manifest promises."""

    path: Path
    name: str
    version: str  # short hash of the contents; names every row this model made
    labels: tuple[str, ...]
    dimension: int  # of the embedding
    max_length: int  # tokens, special tokens included
    languages: frozenset[str]  # what the heads were taught; others get a low confidence
    model: bytes
    tokenizer: str


def content_hash(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def content_version(file_hashes: Mapping[str, str]) -> str:
    """The artefact's version: 12 hexadecimal digits over its files' names and hashes."""
    lines = "".join(f"{name} {file_hashes[name]}\n" for name in sorted(file_hashes))
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
    version = content_version(hashes)
    if manifest.get("version") != version:
        raise DeploymentError(
            f"{folder / MANIFEST_NAME} says version {manifest.get('version')!r}, "
            f"but its files make {version!r}; export the artefact again"
        )
    return _describe(folder, manifest, version, model, tokenizer)


def read_manifest(folder: str | Path) -> dict[str, object]:
    """The manifest of an artefact folder as it stands, without looking at the other files.

    Raises DeploymentError when it is absent or not a manifest of this format.
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
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
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


def _describe(
    folder: Path, manifest: Mapping[str, object], version: str, model: bytes, tokenizer: bytes
) -> Artefact:
    labels = manifest.get("labels")
    if labels != list(SENTIMENT_LABELS):
        raise DeploymentError(
            f"{folder / MANIFEST_NAME}: expected labels {list(SENTIMENT_LABELS)}, got {labels!r}"
        )
    languages = manifest.get("languages")
    return Artefact(
        path=folder,
        name=str(manifest.get("name", "")),
        version=version,
        labels=SENTIMENT_LABELS,
        dimension=_positive(folder, manifest, "dimension"),
        max_length=_positive(folder, manifest, "max_length"),
        languages=frozenset(str(tag) for tag in languages) if isinstance(languages, list) else frozenset(),
        model=model,
        tokenizer=tokenizer.decode("utf-8"),
    )


def _positive(folder: Path, manifest: Mapping[str, object], field: str) -> int:
    value = manifest.get(field)
    if not isinstance(value, int) or value < 1:
        raise DeploymentError(f"{folder / MANIFEST_NAME}: {field} must be a positive number, got {value!r}")
    return value
