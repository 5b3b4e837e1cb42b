"""The item index where workers share no disk: archives behind a pointer, copies on each machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import DeploymentError
from models.ranking.config import DEFAULT_INDEX
from models.ranking.index import ItemIndex, build_index, read_manifest
from models.ranking.log import encode_log
from models.records import Item
from tests.pipeline import folder_filesystem
from transforms import index_archive
from transforms.index_archive import index_folder, publish, published_folder
from transforms.rank_top_k import newer_index, open_published

ROOT = "folder://bucket/out"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that ROOT means; a machine that has seen nothing of it, and looks every time."""
    monkeypatch.setattr(folder_filesystem, "ROOT", tmp_path / "store")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "machine"))
    monkeypatch.setattr(index_archive, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(index_archive, "_seen", {})
    (tmp_path / "machine").mkdir()
    yield tmp_path / "store" / "bucket" / "out" / "index"


def published(tmp_path: Path, title: str, root: str = ROOT) -> tuple[str, str]:
    """Publishes an index of one item; its place and version."""
    build = tmp_path / f"build-{title}"
    manifest = build_index([encode_log([])], [Item("i1", title)], [], DEFAULT_INDEX, 0, build)
    return publish(root, build), manifest.version


def archives(store: Path) -> list[str]:
    return sorted(path.name for path in store.glob("*.tar"))


def test_every_machine_opens_what_one_has_built(store: Path, tmp_path: Path) -> None:
    assert published_folder(ROOT) is None
    place, version = published(tmp_path, "a warm coat")
    assert place == f"{ROOT}/index/{version}.tar"
    opened = ItemIndex.open(index_folder(place))
    assert (opened.version, opened.items) == (version, 1)
    assert open_published(ROOT).version == version
    assert read_manifest(index_folder(place)).version == version


def test_a_new_one_takes_over_and_the_one_before_stays_for_those_who_are_opening_it(
    store: Path, tmp_path: Path
) -> None:
    versions = []
    for title in ("a coat", "a dress", "a shirt"):
        _, version = published(tmp_path, title)
        versions.append(version)
        assert open_published(ROOT).version == version
    assert archives(store) == sorted(f"{version}.tar" for version in versions[1:])


def test_a_damaged_archive_is_refused_and_the_one_before_serves(store: Path, tmp_path: Path) -> None:
    published(tmp_path, "a coat")
    serving = open_published(ROOT)
    _, version = published(tmp_path, "a dress")
    archive = store / f"{version}.tar"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    served, why = newer_index(ROOT, serving)
    assert served is serving and f"{version}.tar cannot be fetched" in why
    archive.write_bytes(whole)
    assert newer_index(ROOT, serving)[0].version == version


def test_a_store_that_cannot_be_read_is_a_clear_error(store: Path) -> None:
    with pytest.raises(DeploymentError, match="the item index under nowhere://x/index cannot be read"):
        published_folder("nowhere://x")


def test_a_machine_keeps_a_few_copies(store: Path, tmp_path: Path) -> None:
    for number in range(8):
        index_folder(published(tmp_path, f"item {number}")[0])
    copies = list((tmp_path / "machine" / "livelist-index").iterdir())
    assert len(copies) == index_archive._KEPT


def test_a_local_root_is_used_as_it_stands(tmp_path: Path) -> None:
    place, version = published(tmp_path, "a coat", str(tmp_path / "out"))
    assert place == str(tmp_path / "out" / "index" / version) == str(index_folder(place))
    assert published_folder(str(tmp_path / "out")) == Path(place)
