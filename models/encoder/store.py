"""Writes artefacts, and publishes them where a running job looks for a newer one."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from models.encoder.artefact import (
    FORMAT,
    MANIFEST_NAME,
    MODEL_NAME,
    TOKENIZER_NAME,
    Artefact,
    content_hash,
    content_version,
    load_artefact,
    read_manifest,
)
from models.encoder.encoders import open_encoder
from models.encoder.session import Floats
from models.encoder.tokens import TextEncoder
from models.errors import DeploymentError
from models.pointer import read_pointer, write_pointer

#: What the graph gives for these is stored with it, and compared before an artefact is used.
PROBE_TEXTS: Final = ("The zipper broke after a day.", "质量很好，非常喜欢！ Great value.")
PROBE_DECIMALS: Final = 4


def write_artefact(
    folder: str | Path,
    model: bytes,
    tokenizer: str,
    manifest: Mapping[str, object],
    probe_texts: Sequence[str] = PROBE_TEXTS,
) -> Artefact:
    """Writes and verifies an artefact; its folder appears, or is replaced, only when it is whole.

    `manifest` has the keys of models/encoder/artefact.py without format, version, files and probes. Raises
    DeploymentError when the graph, the tokenizer and the manifest do not fit together.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    building.chmod(0o755)
    try:
        _write_files(building, model, tokenizer.encode(), dict(manifest))
        _add_probes(building, probe_texts)
        _replace_folder(building, folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return load_artefact(folder)


def _write_files(folder: Path, model: bytes, tokenizer: bytes, manifest: dict[str, object]) -> None:
    contents = {MODEL_NAME: model, TOKENIZER_NAME: tokenizer}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    hashes = {name: content_hash(content) for name, content in contents.items()}
    manifest["format"] = FORMAT
    manifest["version"] = content_version(hashes, manifest)
    manifest["files"] = {n: {"sha256": hashes[n], "bytes": len(c)} for n, c in contents.items()}
    _write_manifest(folder, manifest)


def _write_manifest(folder: Path, manifest: Mapping[str, object]) -> None:
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _add_probes(folder: Path, texts: Sequence[str]) -> None:
    """Runs the graph once a text and stores what it gives."""
    artefact = load_artefact(folder)
    encoder, session = TextEncoder(artefact), open_encoder(artefact)
    inputs = encoder.encode(texts)
    outputs = [session.run([features])[0] for features in inputs]
    probes = [
        {
            "text": text,
            "input_ids": list(features.ids),
            "embedding": _rounded(output.embedding),
            "sentiment": []
            if output.sentiment is None
            else [round(float(x), PROBE_DECIMALS) for x in output.sentiment],
        }
        for text, features, output in zip(texts, inputs, outputs, strict=True)
    ]
    _write_manifest(folder, {**read_manifest(folder), "probes": probes})


def _rounded(values: Floats | None) -> list[float]:
    return [] if values is None else [round(float(value), PROBE_DECIMALS) for value in values]


def _replace_folder(building: Path, folder: Path) -> None:
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MANIFEST_NAME).is_file():
            raise DeploymentError(
                f"{folder} holds something else than a model; give an empty folder or a new one"
            )
        shutil.rmtree(folder)
    building.rename(folder)


def publish_model(artefact: str | Path, root: str | Path) -> Path:
    """Copies a verified artefact to `<root>/<version>` and points `<root>/CURRENT` at it.

    The version that was published before stays, for jobs that are about to open it; older ones go. Raises
    DeploymentError, and moves no pointer, when the artefact is not sound.
    """
    source, root = Path(artefact), Path(root)
    version = load_artefact(source).version
    root.mkdir(parents=True, exist_ok=True)
    before, home = read_pointer(root), root / version
    if not home.exists():
        building = Path(tempfile.mkdtemp(prefix=".building.", dir=root))
        building.chmod(0o755)
        for name in (MODEL_NAME, TOKENIZER_NAME, MANIFEST_NAME):
            shutil.copyfile(source / name, building / name)
        load_artefact(building)
        building.rename(home)
    load_artefact(home)
    write_pointer(root, version)
    for other in root.iterdir():
        if (
            other not in (home, before)
            and not other.name.startswith(".")
            and (other / MANIFEST_NAME).is_file()
        ):
            shutil.rmtree(other, ignore_errors=True)
    return home
