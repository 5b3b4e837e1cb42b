"""What a cluster is made of, fetched once: Flink itself, and the Beam runner's job server.

Flink comes from the sdist of `apache-flink-libraries`, the job server as the official jar where Maven
Central has it, else by the pinned pom beside this file. All of it lies in ~/.cache/livelist/flink.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from models.errors import DeploymentError

FLINK: Final = "1.19"
FLINK_RELEASE: Final = "1.19.3"
Jars = Literal["auto", "official", "pinned"]
JARS: Final[tuple[Jars, ...]] = ("auto", "official", "pinned")

_POM: Final = Path(__file__).with_name("pom.xml")
_DRIVER: Final = "org.apache.beam.runners.flink.FlinkJobServerDriver"
#: Flink on Java 17 reaches into these; so does Kryo in the job server.
OPENS: Final = (
    "java.base/java.lang",
    "java.base/java.lang.invoke",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.text",
    "java.base/java.time",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.util.concurrent.locks",
    "java.base/sun.net.util",
    "java.base/sun.nio.ch",
)
_EXPORTS: Final = (
    "java.base/sun.net.util",
    "java.rmi/sun.rmi.registry",
    "java.security.jgss/sun.security.krb5",
)
#: The job server brings its own Flink and loggers; the cluster has them already.
_NOT_FOR_THE_CLUSTER: Final = ("flink-", "slf4j-", "frocksdbjni-")
#: Enough for both downloads over a slow line.
_SECONDS: Final = 1800
_DAY: Final = 86_400

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FlinkHome:
    """The files of a cluster."""

    cluster: tuple[Path, ...]  # classpath of the cluster's processes, in order
    job_server: Path  # a jar that starts the job server
    official: bool


def java_flags() -> list[str]:
    """What Flink needs to be allowed on Java 17."""
    opens = [f"--add-opens={package}=ALL-UNNAMED" for package in OPENS]
    return opens + [f"--add-exports={package}=ALL-UNNAMED" for package in _EXPORTS]


def find_java() -> str:
    """The `java` program of JAVA_HOME or PATH. Raises DeploymentError where there is none, or an old one."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=os.path.join(home, "bin")) if home else shutil.which("java")
    if java is None:
        where = f"in JAVA_HOME={home}" if home else "on PATH"
        raise DeploymentError(
            f"Flink needs Java 11 or 17, and there is no `java` {where}: "
            "apt-get install openjdk-17-jre-headless"
        )
    return java


def default_cache() -> Path:
    """Where what was fetched is kept: $XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "livelist" / "flink"


def fetch(cache: Path, say: Say, jars: Jars = "auto") -> FlinkHome:
    """Fetches what is missing, and returns where all of it is.

    Raises DeploymentError where something cannot be had, with what was tried.
    """
    cache.mkdir(parents=True, exist_ok=True)
    flink = _once(cache / f"flink-{FLINK_RELEASE}", lambda into: _fetch_flink(into, say))
    if jars != "pinned" and (official := _official(cache, say, jars == "official")):
        return FlinkHome(_jars_in(flink), official, official=True)
    beam = _once(cache / f"job-server-{FLINK}-pinned", lambda into: _fetch_pinned(into, say))
    ours = tuple(path for path in _jars_in(beam) if not path.name.startswith(_NOT_FOR_THE_CLUSTER))
    server = pathing_jar(beam / "job-server.jar", _jars_in(beam), _DRIVER)
    return FlinkHome((*_jars_in(flink), *ours), server, official=False)


def _jars_in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted((folder / "jars").glob("*.jar")))


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made whole or not at all."""
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
        whole = Path(made) / "whole"
        (whole / "jars").mkdir(parents=True)
        make(whole)
        try:
            whole.rename(folder)
        except OSError:
            if not folder.is_dir():  # somebody else was first
                raise
    return folder


def _fetch_flink(into: Path, say: Say) -> None:
    say(f"fetching Flink {FLINK_RELEASE} from PyPI (230 MB, once)")
    wanted = f"apache-flink-libraries=={FLINK_RELEASE}"
    _run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(into), wanted],
        "Flink from PyPI",
    )
    archives = list(into.glob("*.tar.gz"))
    if len(archives) != 1:
        raise DeploymentError(f"{wanted}: expected its .tar.gz, got {[path.name for path in into.iterdir()]}")
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            if "/deps/lib/" in member.name and member.name.endswith(".jar"):
                _take(archive, member, into / "jars" / Path(member.name).name)
    archives[0].unlink()


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
    source = archive.extractfile(member)
    assert source is not None
    to.parent.mkdir(parents=True, exist_ok=True)
    with source, to.open("wb") as target:
        shutil.copyfileobj(source, target)


def _fetch_pinned(into: Path, say: Say) -> None:
    say("fetching the job server's jars from Maven (200 MB, once)")
    # Without a plugin version, Maven takes the one that its own release names, which every mirror has.
    goal = "dependency:copy-dependencies"
    _run(
        [
            _maven(),
            "-q",
            "-B",
            "-f",
            str(_POM),
            goal,
            f"-DoutputDirectory={into / 'jars'}",
            "-DincludeScope=runtime",
        ],
        "the job server's jars from Maven",
    )


def _official(cache: Path, say: Say, must: bool) -> Path | None:
    """The official job server of Beam's version, once fetched; that there is none is remembered for a day."""
    from apache_beam import version

    name = f"beam-runners-flink-{FLINK}-job-server"
    jar = cache / f"{name}-{version.__version__}.jar"
    if jar.is_file():
        return jar
    absent = cache / f"{jar.name}.absent"
    if not must and absent.exists() and time.time() - absent.stat().st_mtime < _DAY:
        return None
    coordinates = f"org.apache.beam:{name}:{version.__version__}"
    say(f"looking for the official job server {coordinates}")
    with tempfile.TemporaryDirectory(dir=cache) as into:
        try:
            get = [
                _maven(),
                "-q",
                "-B",
                "dependency:copy",
                f"-Dartifact={coordinates}",
                f"-DoutputDirectory={into}",
            ]
            _run(get, coordinates, Path(into))
            os.replace(Path(into) / jar.name, jar)
            return jar
        except (DeploymentError, OSError):
            if must:
                raise
            absent.touch()
            return None


def _maven() -> str:
    maven = shutil.which("mvn")
    if maven is None:
        raise DeploymentError(
            "Flink's job server comes from Maven, and there is no `mvn`: apt-get install maven"
        )
    return maven


def _run(command: Sequence[str], what: str, folder: Path | None = None) -> None:
    try:
        ended = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            cwd=folder,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(f"{what}: no answer within {_SECONDS} s; run it again, it goes on") from error
    if ended.returncode:
        told = [
            line for line in (ended.stderr + ended.stdout).splitlines() if "ERROR" in line or "error" in line
        ]
        why = told[0].strip() if told else f"exit code {ended.returncode}"
        raise DeploymentError(f"{what} cannot be had: {why} (tried: {' '.join(command[:4])} ...)")


def pathing_jar(jar: Path, names: Sequence[Path], main_class: str = "") -> Path:
    """Writes a small jar that names others in a fixed order, as a classpath; returns it."""
    main = [f"Main-Class: {main_class}"] if main_class else []
    # With the host, for Java reads these URLs so and Beam's scan of the classpath does not: it would send
    # 200 MB that the cluster has on its own classpath along with every job, and every restart.
    path = f"Class-Path: {' '.join(f'file://localhost{quote(str(name))}' for name in names)}"
    lines = ["Manifest-Version: 1.0", *main, path]
    partial = jar.with_suffix(f".{os.getpid()}.partial")
    with zipfile.ZipFile(partial, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "".join(map(_folded, lines)))
    os.replace(partial, jar)
    return jar


def _folded(line: str) -> str:
    """A manifest line: at most 72 bytes, continued by a space."""
    parts = [line[:70], *(" " + line[at : at + 69] for at in range(70, len(line), 69))]
    return "\r\n".join(parts) + "\r\n"
