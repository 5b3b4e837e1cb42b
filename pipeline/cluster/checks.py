"""What a cluster would need and does not have here."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from models.errors import DeploymentError
from pipeline.cluster.cluster import DEFAULT_FOLDER, running_processes
from pipeline.cluster.jars import FLINK, FLINK_RELEASE, default_cache, find_java

_GIGABYTE: Final = 1 << 30
_DISK_NEEDED: Final = 2 * _GIGABYTE
_JAVA: Final = (11, 17)


class Check(NamedTuple):
    """One finding; without `well`, `livelist flink up` would fail."""

    name: str
    well: bool
    what: str
    remedy: str = ""


def flink_checks(cache: Path | None = None, folder: Path = DEFAULT_FOLDER) -> Iterator[Check]:
    """Java, Maven, what is fetched already, disk and memory, and the cluster in `folder`."""
    where = cache or default_cache()
    yield _java()
    yield from _fetched(where)
    yield _disk(where)
    yield _memory()
    processes = running_processes(folder)
    running = sum(processes.values())
    yield Check("cluster", True, f"{running} of {len(processes)} processes run" if processes else "down")


def java_release(shown: str) -> int:
    """The major version in what `java -version` prints; 0 where it says none."""
    found = re.search(r'version "(?:1\.)?(\d+)', shown)
    return int(found[1]) if found else 0


def _java() -> Check:
    remedy = "apt-get install openjdk-17-jre-headless, or set JAVA_HOME"
    try:
        java = find_java()
    except DeploymentError as error:
        return Check("flink java", False, str(error), remedy)
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    release = java_release(shown)
    what = f"Java {release} ({java})"
    return Check("flink java", release in _JAVA, what, "" if release in _JAVA else f"11 or 17: {remedy}")


def _fetched(cache: Path) -> Iterator[Check]:
    flink = (cache / f"flink-{FLINK_RELEASE}").is_dir()
    beam = any(cache.glob(f"beam-runners-flink-{FLINK}-job-server-*.jar"))
    beam |= (cache / f"job-server-{FLINK}-pinned").is_dir()
    told = "fetched" if flink else "comes from PyPI at the first `livelist flink up` (230 MB)"
    yield Check(f"flink {FLINK_RELEASE}", True, told)
    if beam:
        yield Check("job server", True, "fetched")
    elif shutil.which("mvn"):
        yield Check("job server", True, "comes from Maven at the first `livelist flink up` (200 MB)")
    else:
        yield Check("job server", False, "neither fetched nor `mvn` there", "apt-get install maven")


def _disk(cache: Path) -> Check:
    place = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    return Check(
        "flink disk", free > _DISK_NEEDED, f"{free / _GIGABYTE:.0f} GB free in {place}", "2 GB are needed"
    )


def _memory() -> Check:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) << 10
    except (OSError, StopIteration, ValueError):
        return Check("flink memory", True, "unknown")
    what = f"{available / _GIGABYTE:.0f} GB available"
    return Check("flink memory", available > 3 * _GIGABYTE, what, "a cluster takes about 3 GB")
