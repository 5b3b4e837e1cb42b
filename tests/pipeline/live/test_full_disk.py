"""A disk that is full, for real: a file system of a few megabytes under the state of an endless run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracle import assert_books_close, current_lists, expected_lists
from tests.pipeline.live.feedback_log import Event, burst, run, shop_log, write_log
from tests.pipeline.live.runs import K, append, await_that, command, launched, lines_in, pinned, users_of

_MEGABYTES = 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of its own; skips where that takes rights that the test has not."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small file system takes root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill(folder: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError as error:
            assert error.errno == 28, error
    return ballast


def visitor(name: str) -> Event:
    return burst(1, 1)[0] | {"event_id": name, "user_id": name}


def test_a_full_disk_ends_the_run_with_4_and_with_room_again_it_goes_on_and_loses_nothing(
    small_disk: Path, tmp_path: Path
) -> None:
    events, output = tmp_path / "events", tmp_path / "out"
    events.mkdir()
    log = events / "log.jsonl"
    run(tmp_path / "learned", write_log(log, shop_log()), model="none")
    index = pinned(tmp_path / "learned", output)
    arguments = command(events, output, "--state_dir", str(small_disk), "--reindex_every_seconds", "0")
    job = launched(arguments)
    await_that(lambda: len(users_of(output)) == 14 or job.poll() is not None)
    ballast = fill(small_disk)
    append(log, *burst(1, 60), visitor("early"))
    _, err = job.communicate(timeout=180)
    assert job.returncode == 4, err
    assert f"no space left to write the tables in {small_disk}" in err
    append(log, visitor("meanwhile"))
    ballast.unlink()
    job = launched([*arguments, "--run_for_seconds", "1"])
    _, err = job.communicate(timeout=180)
    assert job.returncode == 0, err
    assert {"early", "meanwhile"} <= users_of(output)
    assert current_lists(output) == expected_lists(index, [events], K)
    assert_books_close(output, lines_in(events))
