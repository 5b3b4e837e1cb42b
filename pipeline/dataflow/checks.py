"""What cannot work on Dataflow, said before anything is sent there, with what to do instead."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    WorkerOptions,
)

from models.errors import DeploymentError, UsageError
from pipeline.cluster.checks import Check
from pipeline.config import JobConfig
from pipeline.connectors.addresses import DeltaFolder, KafkaTopic, PostgresDatabase
from pipeline.connectors.registry import make_sink, make_source
from pipeline.connectors.uris import is_connector, parse_sink, parse_source, redacted, refuse_texts_of
from pipeline.dataflow.job import gathers, wants_gpu
from pipeline.endless import sorted_inputs
from pipeline.flags.engines import Engine, changed_fields, refuse_meaningless
from pipeline.inputs.file_systems import is_url
from pipeline.inputs.finding import check_inputs
from transforms.index_archive import published_folder

_HERE: Final = ("", "localhost", "127.0.0.1", "::1", "0.0.0.0")
_INSTALL: Final = "pip install 'livelist[gcp]'"
_DEFAULTS: Final = JobConfig(inputs=("-",), output="-")


def check_dataflow(config: JobConfig, options: PipelineOptions, endless: bool) -> None:
    """Raises UsageError, InputError or DeploymentError for the first thing that could not work there."""
    refuse_meaningless(changed_fields(config), Engine.DATAFLOW if endless else Engine.DATAFLOW_BOUNDED)
    _check_code(config, options)
    _check_accelerator(config, options, endless)
    for name in _emulators():
        raise UsageError(f"{name} is set: Dataflow's workers do not reach an emulator; unset it")
    if "-" in config.inputs:
        raise UsageError("Dataflow's workers cannot read this terminal's stdin: put the records on gs://")
    _refuse_local("--items", config.items)
    _refuse_local("--output", [config.output])
    if endless:
        _check_endless(config)
    else:
        _check_bounded(config)
    if not has_client():
        raise DeploymentError(f"DataflowRunner needs: {_INSTALL}")
    if endless:
        _check_index(config)
    else:
        check_inputs(config.inputs)
    if config.items:
        check_inputs(config.items)
    _check_options(options)


def _check_options(options: PipelineOptions) -> None:
    """What Beam itself misses, such as a project or a place for what it stages."""
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

    if wrong := PipelineOptionsValidator(options, DataflowRunner()).validate():
        raise UsageError(f"DataflowRunner: {' '.join(wrong)}")


def dataflow_checks() -> Iterator[Check]:
    """What this machine would need to submit a job; asks no service."""
    client = has_client()
    yield Check("dataflow", client, "Beam's client is here" if client else "no client", _INSTALL)
    given = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    known = Path(given) if given else Path.home() / ".config/gcloud/application_default_credentials.json"
    held = known.is_file() or _on_google()
    told = "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=FILE"
    yield Check("credentials", held, str(known) if known.is_file() else f"none in {known}", told)
    emulators = _emulators()
    yield Check("emulators", not emulators, " and ".join(emulators) or "none", "unset them")


def has_client() -> bool:
    """Whether Beam's gcp extra is installed."""
    try:
        return find_spec("google.cloud.dataflow_v1beta3") is not None
    except ModuleNotFoundError:
        return False


def _emulators() -> list[str]:
    return [name for name in ("PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST") if os.environ.get(name)]


def _on_google() -> bool:
    """Whether the machine is one of Google's, whose own account serves."""
    product = Path("/sys/class/dmi/id/product_name")
    return product.is_file() and "Google" in product.read_text()


def _check_code(config: JobConfig, options: PipelineOptions) -> None:
    """Workers get the code, the model and the topics by name, never by accident of a path."""
    image = options.view_as(WorkerOptions).sdk_container_image
    if not image and not options.view_as(SetupOptions).setup_file:
        raise UsageError(
            "Dataflow's workers need this code: pass --sdk_container_image=IMAGE "
            "(deploy/dataflow/README.md), or --setup_file=./setup.py and "
            "--requirements_file=deploy/requirements-worker.txt"
        )
    for flag, path in (
        ("--model", config.model),
        ("--canary_model", config.canary_model),
        ("--topics", config.topics),
    ):
        if path not in (None, "none") and not image:
            raise UsageError(
                f"{flag} {path}: Dataflow's workers have it only from an image that holds it there; "
                "pass --sdk_container_image=IMAGE"
            )


def _check_accelerator(config: JobConfig, options: PipelineOptions, endless: bool) -> None:
    if not wants_gpu(config):
        return
    cloud = options.view_as(GoogleCloudOptions)
    if not options.view_as(WorkerOptions).sdk_container_image:
        raise UsageError(
            f"--providers {','.join(config.providers)}: Beam's own worker image has no CUDA; pass "
            "--sdk_container_image with the image of deploy/dataflow that was built with RUNTIME=gpu"
        )
    if any(option.startswith("worker_accelerator") for option in cloud.dataflow_service_options or ()):
        raise UsageError(
            "worker_accelerator puts a GPU on every worker, and goes not with the hint on the scoring step: "
            "leave it out, --accelerator says the type"
        )
    if cloud.flexrs_goal:
        raise UsageError("--flexrs_goal does not go with a GPU on one step: Dataflow refuses the pair")
    if endless and options.view_as(WorkerOptions).autoscaling_algorithm == "NONE":
        raise UsageError(
            "an endless job with a GPU on one step needs horizontal autoscaling: leave "
            "--autoscaling_algorithm out, or pass THROUGHPUT_BASED"
        )


def _check_bounded(config: JobConfig) -> None:
    for uri in config.inputs:
        if is_connector(uri):
            raise UsageError(f"--input {redacted(uri)} never ends: pass --streaming")
    _refuse_local("--input", config.inputs)
    if config.sinks:
        raise UsageError(
            f"--output {redacted(config.sinks[0])} goes with --streaming; a bounded run writes tables alone"
        )


def _check_endless(config: JobConfig) -> None:
    files, pulled = sorted_inputs(config)
    if files:
        raise UsageError(
            f"--input {files[0]}: an endless job on Dataflow follows no files: its workers share no disk; "
            "publish the records to Pub/Sub or Kafka, or read the files without --streaming"
        )
    if config.form.name != "jsonl":
        raise UsageError(f"an endless job follows JSON lines, not --format {config.form.name}: convert them")
    refuse_texts_of(pulled, "on Dataflow")
    for uri in pulled:
        _check_place(uri, parse_source(uri))
    if not config.sinks:
        raise UsageError(
            f"an endless job on Dataflow writes to a service, and {config.output} only holds its item index: "
            "add --output bigquery://PROJECT/DATASET, pubsub://, kafka://, postgresql:// or delta+gs://"
        )
    for uri in config.sinks:
        _check_place(uri, parse_sink(uri))
    waits = config.snapshot_every_seconds != _DEFAULTS.snapshot_every_seconds
    if waits and not any(map(gathers, config.sinks)):
        raise UsageError(
            "--snapshot_every_seconds is for sinks whose rows gather, bigquery:// and delta+gs://, and no "
            "--output is one; leave it out"
        )
    # Last, for they need their clients, which the places do not.
    for uri in pulled:
        make_source(uri)
    for uri in config.sinks:
        make_sink(uri)


def _check_index(config: JobConfig) -> None:
    if published_folder(config.output) is None:
        raise DeploymentError(
            f"no item index is published under {config.output}/index; make one by a bounded run into "
            f"the same folder: livelist run --input gs://... --output {config.output}"
        )


def _refuse_local(flag: str, paths: Iterable[str]) -> None:
    for path in paths:
        if not is_connector(path) and (not is_url(path) or path.startswith("file://")):
            raise UsageError(
                f"{flag} {path}: Dataflow's workers do not see this machine's disk; give a gs:// URL"
            )


def _check_place(uri: str, address: object) -> None:
    """Refuses what is on this machine."""
    hosts: list[str] = []
    if isinstance(address, KafkaTopic):
        hosts = [server.rpartition(":")[0].strip("[]") for server in address.servers.split(",")]
    elif isinstance(address, PostgresDatabase):
        hosts = [urlsplit(address.dsn).hostname or ""]
    elif isinstance(address, DeltaFolder) and not is_url(address.root):
        hosts = [""]
    if any(host in _HERE for host in hosts):
        raise UsageError(
            f"{redacted(uri)}: Dataflow's workers do not reach this machine; name a host that they do"
        )
