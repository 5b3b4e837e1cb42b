"""A job follows its model: newer ones are taken up whole, broken ones never; every score names its own."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.encoder.artefact import MANIFEST_NAME, MODEL_NAME
from models.encoder.serving import (
    CanaryComparison,
    ScorerPool,
    ServingConfig,
    is_canary,
    shared_pool,
)
from models.encoder.store import publish_model
from models.errors import DeploymentError
from models.pointer import read_pointer, write_pointer
from models.records import ScoredText
from tests.models.encoder.tiny import write_tiny

TEXTS = ["good", "bad zipper", "质量很好", "the zipper broke .", "great"]


def _published(tmp_path: Path, **changes: object) -> tuple[Path, str]:
    """A root with one published artefact, and its version."""
    artefact = write_tiny(tmp_path / f"made-{len(list(tmp_path.iterdir()))}", **changes)
    root = tmp_path / "models"
    publish_model(artefact.path, root)
    return root, artefact.version


def _pool(root: Path) -> ScorerPool:
    return ScorerPool(ServingConfig(str(root), threads=1, poll_seconds=0))


def _versions(pool: ScorerPool) -> set[str]:
    return {r.score.model_version for r in pool.score(TEXTS).results if isinstance(r, ScoredText)}


def test_a_newer_model_takes_over_between_batches(tmp_path: Path) -> None:
    root, first = _published(tmp_path)
    pool = _pool(root)
    assert _versions(pool) == {first}
    _, second = _published(tmp_path, languages=["en"])
    assert second != first
    assert _versions(pool) == {second}
    assert pool.swaps == 1
    assert pool.texts == 2 * len(TEXTS)


def test_the_pointer_is_looked_at_no_more_often_than_asked(tmp_path: Path) -> None:
    root, first = _published(tmp_path)
    now = [0.0]
    pool = ScorerPool(ServingConfig(str(root), threads=1, poll_seconds=10), lambda: now[0])
    _published(tmp_path, languages=["en"])
    now[0] = 9.9
    assert _versions(pool) == {first}
    now[0] = 10.0
    assert _versions(pool) != {first}


def _truncate(folder: Path) -> None:
    content = (folder / MODEL_NAME).read_bytes()
    (folder / MODEL_NAME).write_bytes(content[: len(content) // 2])


def _flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / MODEL_NAME).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / MODEL_NAME).write_bytes(content)


def _lose_the_manifest(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()


def _lose_the_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def _spoil_a_probe(folder: Path) -> None:
    text = (folder / MANIFEST_NAME).read_text("utf-8")
    (folder / MANIFEST_NAME).write_text(
        text.replace("The zipper broke after a day.", "good good bad"), "utf-8"
    )


@pytest.mark.parametrize(
    "damage", [_truncate, _flip_a_bit, _lose_the_manifest, _lose_the_folder, _spoil_a_probe]
)
def test_a_broken_model_is_never_used_and_is_told_once(tmp_path: Path, damage: object) -> None:
    root, first = _published(tmp_path)
    pool = _pool(root)
    _, second = _published(tmp_path, languages=["en"])
    assert callable(damage)
    damage(root / second)
    served = pool.score(TEXTS)
    assert served.version == first
    assert [(one.version, one.serving) for one in served.refusals] == [(second, first)]
    assert pool.score(TEXTS).refusals == ()
    assert [one.version for one in pool.refusals()] == [second]


def test_a_refused_model_is_taken_up_once_it_is_whole(tmp_path: Path) -> None:
    root, first = _published(tmp_path)
    pool = _pool(root)
    _, second = _published(tmp_path, languages=["en"])
    whole = shutil.copytree(root / second, tmp_path / "whole")
    _truncate(root / second)
    assert _versions(pool) == {first}
    shutil.copyfile(whole / MODEL_NAME, root / second / MODEL_NAME)
    assert _versions(pool) == {second}


@pytest.mark.parametrize("content", ["", "nowhere\n", "../..\n"])
def test_a_pointer_to_nothing_is_refused(tmp_path: Path, content: str) -> None:
    root, first = _published(tmp_path)
    pool = _pool(root)
    (root / "CURRENT").write_text(content)
    assert _versions(pool) == {first}
    assert len(pool.refusals()) == 1


def test_a_hundred_swaps_lose_no_text_and_mix_no_versions(tmp_path: Path) -> None:
    root, first = _published(tmp_path)
    _, second = _published(tmp_path, languages=["en"])
    pool = _pool(root)
    stop = threading.Event()

    def score(worker: int) -> list[tuple[int, set[str], str]]:
        seen = []
        while not stop.wait(0.002):
            served = pool.score([*TEXTS, f"good {worker}"])
            named = {r.score.model_version for r in served.results if isinstance(r, ScoredText)}
            seen.append((len(served.results), named, served.version))
        return seen

    with ThreadPoolExecutor(3) as threads:
        workers = [threads.submit(score, worker) for worker in range(3)]
        try:
            for swap in range(100):
                write_pointer(root, first if swap % 2 else second)
                pool.poll(now=True)
        finally:
            stop.set()
        batches = [batch for worker in workers for batch in worker.result()]
    assert pool.refusals() == []
    assert pool.swaps >= 99
    assert all(count == len(TEXTS) + 1 and named == {version} for count, named, version in batches)
    assert {version for _, _, version in batches} == {first, second}


def test_publishing_keeps_the_version_before_and_deletes_older_ones(tmp_path: Path) -> None:
    versions = [_published(tmp_path, max_length=length)[1] for length in (16, 17, 18)]
    root = tmp_path / "models"
    assert read_pointer(root) == root / versions[2]
    assert {path.parent.name for path in root.glob(f"*/{MANIFEST_NAME}")} == set(versions[1:])


def test_what_is_not_sound_is_not_published(tmp_path: Path) -> None:
    root, first = _published(tmp_path)
    broken = write_tiny(tmp_path / "broken", languages=["en"]).path
    _flip_a_bit(broken)
    with pytest.raises(DeploymentError, match="damaged"):
        publish_model(broken, root)
    assert read_pointer(root) == root / first


def test_a_job_does_not_start_without_its_model_or_canary(tmp_path: Path) -> None:
    root, _ = _published(tmp_path)
    with pytest.raises(DeploymentError, match="no model at"):
        ScorerPool(ServingConfig(str(tmp_path / "nowhere")))
    with pytest.raises(DeploymentError, match="no model at"):
        ScorerPool(ServingConfig(str(root), canary_model=str(tmp_path / "nowhere")))


def test_a_canary_is_compared_on_the_texts_it_reads(tmp_path: Path) -> None:
    root, first = _published(tmp_path)
    canary = write_tiny(tmp_path / "canary", languages=[])  # knows no language: its polarity is damped
    pool = ScorerPool(ServingConfig(str(root), threads=1, canary_model=str(canary.path), canary_share=1.0))
    served = pool.score([*TEXTS, "", TEXTS[0]])
    assert served.canary is not None
    assert (served.canary.serving, served.canary.canary) == (first, canary.version)
    assert served.canary.texts == len(TEXTS)
    assert served.canary.summary()["mean_abs_polarity_delta"] > 0
    pool.score(TEXTS[:2])
    compared = pool.canary()
    assert compared is not None
    assert compared.texts == len(TEXTS) + 2


@given(st.text(), st.floats(0.01, 1))
def test_the_canary_reads_the_same_texts_every_time(text: str, share: float) -> None:
    assert is_canary(text, share) == is_canary(text, share)
    assert is_canary(text, 1.0)


def test_the_canary_reads_about_its_share() -> None:
    assert 30 <= sum(is_canary(f"text {i}", 0.05) for i in range(1000)) <= 70


def test_comparisons_of_other_versions_begin_anew() -> None:
    one = CanaryComparison("a", "b", texts=2, agreed=1, polarity_delta=0.5)
    assert one.plus(one).texts == 4
    assert one.plus(CanaryComparison("c", "b", texts=1)).texts == 1
    assert CanaryComparison("a", "b").summary() == {"texts": 0, "failures": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canary_share": 0}, "canary_share must be above 0"),
        ({"poll_seconds": -1}, "poll_seconds must not be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServingConfig(**changes)  # type: ignore[arg-type]


def test_a_process_keeps_one_pool_until_the_folder_is_replaced(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "model").path
    config = ServingConfig(str(folder), threads=1)
    pool = shared_pool(config)
    assert shared_pool(config) is pool
    second = write_tiny(tmp_path / "model", languages=["en"])
    assert shared_pool(config).scorer.model_version == second.version
