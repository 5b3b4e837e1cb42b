"""Sends a job to Dataflow, or writes it as a template."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from models.errors import DeploymentError
from pipeline.config import JobConfig
from pipeline.dataflow.checks import check_dataflow
from pipeline.dataflow.job import build_bounded, build_endless, scorer_for_workers
from pipeline.job import RunReport, run_report
from pipeline.tables.output_folder import new_run_id
from pipeline.tables.sinks import prepare_output


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission."""

    job_id: str  # empty: a template was written, and nothing runs yet
    page: str  # of the job in the console
    report: RunReport | None  # of a bounded job that was waited for


def submit(config: JobConfig, options: PipelineOptions, endless: bool) -> Submitted:
    """Builds the job and hands it over; a bounded one is waited for, a template's launcher waits for nothing.

    Raises LivelistError before anything is sent where an input, the output, the model or a combination
    of them is not sound, and DeploymentError when a bounded job does not end well.
    """
    check_dataflow(config, options, endless)
    score_feedback = scorer_for_workers(config)
    run_id, began = new_run_id(), time.monotonic()
    with _output(config, run_id, endless):
        pipeline = beam.Pipeline(options=options)
        build = build_endless if endless else build_bounded
        build(pipeline, config, score_feedback, run_id)
        result = pipeline.run()
        job_id = _job_id(result)
        if endless or not job_id:
            return Submitted(job_id, _page(options, job_id), None)
        if (state := result.wait_until_finish()) != PipelineState.DONE:
            raise DeploymentError(f"job {job_id} ended as {state}: {_page(options, job_id)} tells why")
    return Submitted(job_id, _page(options, job_id), run_report(config, run_id, time.monotonic() - began))


def _output(config: JobConfig, run_id: str, endless: bool) -> AbstractContextManager[object]:
    return nullcontext() if endless else prepare_output(config.output, run_id, config.if_exists)


def _job_id(result: PipelineResult) -> str:
    return str(result.job_id()) if getattr(result, "has_job", False) else ""


def _page(options: PipelineOptions, job_id: str) -> str:
    cloud = options.view_as(GoogleCloudOptions)
    place = f"{cloud.region}/{job_id}?project={cloud.project}"
    return f"https://console.cloud.google.com/dataflow/jobs/{place}" if job_id else ""
