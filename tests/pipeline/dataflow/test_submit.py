"""The job on Dataflow, as far as it goes without the cloud: what is refused, and Beam's own translation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, NamedTuple

import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2

from models.errors import LivelistError
from models.ranking.config import DEFAULT_INDEX
from models.ranking.index import build_index
from models.ranking.log import encode_log
from models.records import Item
from pipeline.cli.main import main
from pipeline.config import JobConfig
from pipeline.dataflow.checks import check_dataflow, dataflow_checks
from pipeline.dataflow.job import accelerator_hint, raw_record_of
from pipeline.inputs.reading import InputFormat
from tests.pipeline import folder_filesystem
from tests.pipeline.live.feedback_log import shop_log, write_log
from transforms.index_archive import publish

IMAGE = "--sdk_container_image=registry/livelist-dataflow:1"
BUCKET = "folder://bucket"
#: What `--update` finds states by: a change here is a change for everybody who runs the job.
STATEFUL = [
    "Gather_dead_letters/Gather/ParDo(_GroupIntoBatchesDoFn)",
    "Gather_quality/Gather/ParDo(_GroupIntoBatchesDoFn)",
    "Gather_quarantine/Gather/ParDo(_GroupIntoBatchesDoFn)",
    "Gather_recommendations/Gather/ParDo(_GroupIntoBatchesDoFn)",
    "Gather_scored_feedback/Gather/ParDo(_GroupIntoBatchesDoFn)",
    "SuppressUnchanged/HoldUnchanged/ParDo(_HoldUnchanged)",
    "UpdateUserState/JoinState/ParDo(_JoinState)",
]


@pytest.fixture(autouse=True)
def no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)


def refusal(config: JobConfig, *flags: str, endless: bool = True) -> str:
    with pytest.raises(LivelistError) as caught:
        check_dataflow(config, PipelineOptions([*flags]), endless)
    return str(caught.value)


def job(**fields: Any) -> JobConfig:
    given: dict[str, Any] = {
        "inputs": ("pubsub://some-project/feedback",),
        "output": f"{BUCKET}/out",
        "sinks": ("postgresql://someone@db.example/lists",),
    }
    return JobConfig(**given | fields)


ENDLESS_REFUSALS = {
    "follows no files": job(inputs=("gs://bucket/events",)),
    "cannot read this terminal's stdin": job(inputs=("-",)),
    "do not see this machine's disk": job(output="/tmp/lists"),
    "feedback?group=g: Dataflow's workers do not reach this machine": job(
        inputs=("kafka://kafka.example:9092,localhost:9092/feedback?group=g",)
    ),
    "someone@localhost/lists: Dataflow's workers do not reach": job(
        inputs=("kafka://kafka.example:9092/feedback?group=g",),
        sinks=("postgresql://someone@localhost/lists",),
    ),
    "not --format csv": job(form=InputFormat(name="csv")),
    "--emit_history does nothing in an endless run on Dataflow: it is for bounded runs": job(
        emit_history=True
    ),
    "--state_dir does nothing in an endless run on Dataflow": job(state_dir="/tmp/state"),
    "--rerank_at_drain does nothing in an endless run on Dataflow": job(rerank_at_drain=True),
    "--reindex_every_seconds does nothing in an endless run on Dataflow": job(reindex_every_seconds=5.0),
    "--allowed_lateness_seconds does nothing in an endless run on Dataflow": job(allowed_lateness_seconds=60),
    "--snapshot_every_seconds is for sinks whose rows gather": job(snapshot_every_seconds=60.0),
    "--model /models/mine: Dataflow's workers have it only from an image": job(model="/models/mine"),
    "has no CUDA": job(providers=("CUDAExecutionProvider",)),
}


@pytest.mark.parametrize("why", ENDLESS_REFUSALS)
def test_what_would_fail_on_workers_is_refused_before_anything_is_sent(why: str) -> None:
    assert why in refusal(ENDLESS_REFUSALS[why], "--setup_file=./setup.py")


def test_a_job_without_code_for_its_workers_is_refused() -> None:
    assert "--sdk_container_image=IMAGE" in refusal(job())


@pytest.mark.parametrize(
    ("why", "flag"),
    [
        (
            "worker_accelerator puts a GPU on every worker",
            "--dataflow_service_option=worker_accelerator=x",
        ),
        ("--flexrs_goal does not go with a GPU", "--flexrs_goal=COST_OPTIMIZED"),
        ("needs horizontal autoscaling", "--autoscaling_algorithm=NONE"),
    ],
)
def test_options_that_undo_the_hint_are_refused(why: str, flag: str) -> None:
    assert why in refusal(job(providers=("CUDAExecutionProvider",)), IMAGE, flag)


def test_an_emulator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "localhost:8085")
    assert "do not reach an emulator" in refusal(job(), IMAGE)


@pytest.mark.parametrize(
    ("why", "config"),
    [
        ("never ends: pass --streaming", job(sinks=())),
        ("do not see this machine's disk", job(inputs=("/tmp/events.jsonl",), sinks=())),
        ("do not see this machine's disk", job(inputs=("gs://b/e",), items=("/tmp/items.jsonl",), sinks=())),
        ("a bounded run writes tables alone", job(inputs=("gs://b/e",))),
    ],
)
def test_a_bounded_job_takes_files_that_workers_see(why: str, config: JobConfig) -> None:
    assert why in refusal(config, IMAGE, endless=False)


def test_flags_of_a_job_in_this_process_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--streaming", "--runner=DataflowRunner", "--input=pubsub://some-project/feedback"]
    assert main([*command, f"--output={BUCKET}/out", "--metrics_port=9400"]) == 2
    assert (
        "--metrics_port does nothing in an endless run on Dataflow: it is for an endless run "
        "in this process or on Flink" in capsys.readouterr().err
    )


def test_a_message_is_known_by_its_id_or_else_by_its_bytes() -> None:
    known = PubsubMessage(b"{}", {}, message_id="17")
    assert raw_record_of(known, "feedback", 100) == (b"{}", "pubsub:feedback:17", b"", "")
    one, same, other = (raw_record_of(PubsubMessage(data, {}), "s", 100)[1] for data in (b"a", b"a", b"b"))
    assert one == same != other
    assert raw_record_of(PubsubMessage(b"x" * 200, {}, message_id="1"), "s", 100)[3].startswith("too_long")


def test_a_gpu_comes_with_its_machine() -> None:
    assert accelerator_hint("nvidia-l4") == (
        "type:nvidia-l4;count:1;machine_type:g2-standard-4;install-nvidia-driver"
    )
    assert accelerator_hint("nvidia-tesla-t4") == "type:nvidia-tesla-t4;count:1;install-nvidia-driver"


class Translated(NamedTuple):
    """What the service would be sent."""

    job: dict[str, Any]  # the v1b3 Job
    graph: Any  # the staged pipeline

    def leaves(self) -> Iterator[Any]:
        return (step for step in self.graph.components.transforms.values() if not step.subtransforms)

    def with_state(self) -> list[str]:
        return sorted(step.unique_name for step in self.leaves() if _has_state(step))

    def with_hint(self) -> dict[str, dict[str, bytes]]:
        environments = self.graph.components.environments
        hints = {
            step.unique_name: dict(environments[step.environment_id].resource_hints)
            for step in self.leaves()
            if step.environment_id
        }
        return {name: hint for name, hint in hints.items() if hint}

    def urns(self) -> dict[str, str]:
        return {step.unique_name: step.spec.urn for step in self.leaves()}


def _has_state(step: Any) -> bool:
    if step.spec.urn != "beam:transform:pardo:v1":
        return False
    payload = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
    return bool(payload.state_specs or payload.timer_family_specs)


def translate(root: Path, *flags: str) -> Translated:
    """By `livelist run`, with what the service is sent kept on disk, and no credentials."""
    staging = root / "staging"
    staging.mkdir(exist_ok=True)
    template = root / "job.json"
    command = ["run", "--runner=DataflowRunner", "--project=some-project", "--region=europe-west4"]
    places = [
        f"--temp_location={staging}",
        f"--staging_location={staging}",
        f"--template_location={template}",
    ]
    # An endpoint here lets the staging be a folder; nothing is sent to it.
    offline = ["--no_auth", "--dataflow_endpoint=http://localhost:9"]
    assert (
        main(["--debug", *command, *places, f"--template_location={template}", *offline, IMAGE, *flags]) == 0
    )
    graph = beam_runner_api_pb2.Pipeline.FromString((staging / "pipeline.pb").read_bytes())
    return Translated(json.loads(template.read_text()), graph)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with a log and a published index."""
    pytest.importorskip("google.cloud.dataflow_v1beta3", reason="beam's gcp extra is missing: make test-all")
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_filesystem, "ROOT", root)
        for name in ("PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
            patch.delenv(name, raising=False)
        (root / "bucket" / "in").mkdir(parents=True)
        write_log(root / "bucket" / "in" / "events.jsonl", shop_log())
        build_index([encode_log([])], [Item("coat", "a warm coat")], [], DEFAULT_INDEX, 0, root / "index")
        publish(f"{BUCKET}/out", root / "index")
        yield root


@pytest.fixture(scope="module")
def endless(bucket: Path, tmp_path_factory: pytest.TempPathFactory) -> Translated:
    return translate(
        tmp_path_factory.mktemp("endless"),
        "--streaming",
        "--input=pubsub://some-project/feedback",
        "--input=kafka://kafka.example:9092/feedback?group=lists",
        f"--output={BUCKET}/out",
        "--output=bigquery://some-project/lists",
        "--output=pubsub://some-project/topics/lists",
        "--providers=cuda",
    )


@pytest.fixture(scope="module")
def bounded(bucket: Path, tmp_path_factory: pytest.TempPathFactory) -> Translated:
    flags = (f"--input={BUCKET}/in/*.jsonl", f"--output={BUCKET}/tables", "--providers=cuda")
    return translate(tmp_path_factory.mktemp("bounded"), *flags)


@pytest.mark.cloud
def test_an_endless_job_runs_on_streaming_engine_in_our_image(endless: Translated) -> None:
    assert endless.job["type"] == "JOB_TYPE_STREAMING"
    assert {"enable_streaming_engine", "use_runner_v2"} <= set(endless.job["environment"]["experiments"])
    (pool,) = endless.job["environment"]["workerPools"]
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {
        IMAGE.partition("=")[2]
    }


@pytest.mark.cloud
def test_the_steps_that_hold_states_keep_their_names(endless: Translated) -> None:
    assert endless.with_state() == STATEFUL
    runbook = (Path(__file__).parents[3] / "deploy/dataflow/README.md").read_text()
    for name in STATEFUL:
        told = re.sub(r"^Gather_\w+", "Gather_<table>", name).rpartition("/")[0]
        assert f"`{told}`" in runbook, told


@pytest.mark.cloud
def test_pubsub_is_read_by_the_service_and_kafka_by_us(endless: Translated) -> None:
    urns = endless.urns()
    reads = [name for name, urn in urns.items() if urn == "beam:transform:pubsub_read:v1"]
    assert reads == ["PullFeedback0/ReadMessages/Read"]
    assert any(name.startswith("PullFeedback1/") for name in urns)


@pytest.mark.cloud
@pytest.mark.parametrize("kind", ["endless", "bounded"])
def test_a_gpu_is_asked_for_by_the_scoring_step_alone(kind: str, request: pytest.FixtureRequest) -> None:
    hints = request.getfixturevalue(kind).with_hint()
    asked = {name.partition("/")[0] for name in hints}
    assert asked == {"ScoreFeedback", "ScoreCatalogue"} if kind == "bounded" else {"ScoreFeedback"}
    assert set(map(str, hints.values())) == {
        str({"beam:resources:accelerator:v1": accelerator_hint("nvidia-l4").encode()})
    }
    assert any("RunInference" in name for name in hints)


@pytest.mark.cloud
def test_behaviour_passes_the_encoder_by_and_texts_wait_behind_a_shuffle(endless: Translated) -> None:
    hints = endless.with_hint()
    assert {name for name in hints if not name.startswith("ScoreFeedback/RunEncoder/")} == set()
    urns = endless.urns()
    assert "ScoreFeedback/PassUnscored/ParDo(_Pass)" in urns
    assert urns["Texts/SpreadTexts/ReshufflePerKey/GroupByKey"] == "beam:transform:group_by_key:v1"


@pytest.mark.cloud
def test_a_bounded_job_clears_away_what_it_staged(bounded: Translated, bucket: Path) -> None:
    assert bounded.job["type"] == "JOB_TYPE_BATCH"
    assert any(name.startswith("DropStaged") for name in bounded.urns())
    assert [path for path in bucket.rglob("*") if path.is_file() and ".staging" in str(path)] == []


@pytest.mark.cloud
def test_no_key_of_ours_is_among_the_options_that_the_service_shows(bucket: Path, tmp_path: Path) -> None:
    flags = (f"--input={BUCKET}/in/*.jsonl", f"--output={BUCKET}/tables", "--model=none")
    told = translate(tmp_path, *flags, "--user_id_key=not-to-be-shown")
    assert "not-to-be-shown" not in json.dumps(told.job)


@pytest.mark.cloud
def test_an_endless_job_without_an_index_is_refused(bucket: Path) -> None:
    why = refusal(job(output=f"{BUCKET}/elsewhere", sinks=("pubsub://some-project/topics/lists",)), IMAGE)
    assert "no item index is published under folder://bucket/elsewhere/index" in why


@pytest.mark.cloud
def test_an_endless_job_without_a_sink_is_refused(bucket: Path) -> None:
    assert "add --output bigquery://" in refusal(job(sinks=()), IMAGE)


def test_the_doctor_misses_credentials_and_sees_an_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "localhost:8085")
    found = {check.name: check for check in dataflow_checks()}
    assert found["credentials"].what == f"none in {tmp_path / 'key.json'}"
    assert not found["emulators"].well and "PUBSUB_EMULATOR_HOST" in found["emulators"].what
    (tmp_path / "key.json").touch()
    assert {check.name: check.well for check in dataflow_checks()}["credentials"]


@pytest.mark.cloud
def test_what_beam_misses_is_told_in_one_line(bucket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--runner=DataflowRunner", IMAGE, f"--input={BUCKET}/in/*.jsonl"]
    assert main([*command, f"--output={BUCKET}/tables", "--region=europe-west4"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("livelist: DataflowRunner: ")
    assert "temp_location" in told and "Missing required option: project." in told


class _Service(BaseHTTPRequestHandler):
    """Dataflow's address on loopback: takes a job, and gives it an id."""

    jobs: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.jobs.append((self.path, body))
        answer = json.dumps({"id": "2026-1", "name": body["name"], "currentState": "JOB_STATE_PENDING"})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.mark.cloud
def test_an_endless_job_is_submitted_and_left_to_itself(
    bucket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _Service.jobs.clear()
    with ThreadingHTTPServer(("localhost", 0), _Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        places = [f"--{name}_location={tmp_path}" for name in ("temp", "staging")]
        endpoint = ["--no_auth", f"--dataflow_endpoint=http://localhost:{server.server_port}"]
        where = ["--project=some-project", "--region=europe-west4", "--job_name=shop-lists"]
        job = ["--input=pubsub://some-project/feedback", f"--output={BUCKET}/out", "--model=none"]
        sink = "--output=pubsub://some-project/topics/lists"
        command = ["run", "--streaming", "--runner=DataflowRunner", *where, *places, *endpoint, IMAGE, *job]
        assert main(["--debug", *command, sink]) == 0
        server.shutdown()
    ((path, sent),) = _Service.jobs
    assert path.startswith("/v1b3/projects/some-project/locations/europe-west4/jobs")
    assert sent["name"] == "shop-lists"
    assert "job 2026-1 is submitted and goes on without this command: https://" in capsys.readouterr().out
