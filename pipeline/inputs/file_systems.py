"""Other file systems than the local disk: the options that they take, and what they lack, in one line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Final

from pipeline.cli.console import quiet_libraries
from pipeline.cli.parsing import CommandParser, flags_of, refuse_unknown

#: Scheme -> what brings its file system, and a package by which that is known.
_EXTRAS: Final = {
    "s3": ("livelist[aws]", "boto3"),
    "gs": ("livelist[gcp]", "google.cloud.storage"),
    "azfs": ("apache-beam[azure]", "azure.storage.blob"),
    "hdfs": ("apache-beam[hadoop]", "hdfs"),
}


def is_url(path: str) -> bool:
    """Whether a path names a file system, as `s3://bucket/key` does."""
    return "://" in path


def parse_with_file_systems(
    parser: CommandParser, arguments: list[str], namespace: argparse.Namespace | None = None
) -> argparse.Namespace:
    """Our flags; what is left over, in `beam`, is for Beam's file systems."""
    flags, rest = parser.parse_known_args(arguments, namespace)
    flags.beam = rest
    if rest and not any(map(is_url, arguments)):  # Beam takes seconds to load
        refuse_unknown(rest, flags_of(parser), parser.prog)
    if rest:
        _refuse_others(rest, parser)
    return flags


def use_file_systems(rest: Sequence[str], paths: Iterable[str | None]) -> None:
    """Lets Beam's file systems know their options; Beam is loaded where there are any, or a path is a URL."""
    if not rest and not any(path and is_url(path) for path in paths):
        return
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    FileSystems.set_options(PipelineOptions(list(rest)))


def _refuse_others(rest: Sequence[str], ours: CommandParser) -> None:
    """Raises UsageError about the first argument that is neither ours nor of a file system."""
    quiet_libraries()
    from apache_beam.options import pipeline_options as options
    from apache_beam.options.pipeline_options import _BeamArgumentParser

    class _FileSystemOptions(CommandParser, _BeamArgumentParser):
        pass

    theirs = _FileSystemOptions(ours.prog)
    for of in (
        options.S3Options,
        options.GoogleCloudOptions,
        options.AzureOptions,
        options.HadoopFileSystemOptions,
    ):
        of._add_argparse_args(theirs)
    _, unknown = theirs.parse_known_args(list(rest))
    if unknown:
        refuse_unknown(unknown, [*flags_of(ours), *flags_of(theirs)], ours.prog)


def why_not(error: BaseException, path: str) -> str:
    """Why a path could not be opened, listed or written, in one line that says what to do."""
    if not is_url(path):
        return str(getattr(error, "strerror", None) or error).splitlines()[0]
    scheme = path.partition("://")[0]
    package, module = _EXTRAS.get(scheme, ("", ""))
    if package and not _importable(module):
        return f"{scheme}:// needs: pip install '{package}'"
    if not package and "filesystem" in str(error).lower():
        return f"there is no file system for {scheme}://; expected a path, or {':// or '.join(_EXTRAS)}://"
    told = str(error.args[0] if error.args else error)  # a second argument is a code
    return next(iter(told.splitlines()), type(error).__name__)


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
