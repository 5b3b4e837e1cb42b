"""The metrics of an endless run in Prometheus' text format, over HTTP; to this machine alone unless asked.

    curl http://127.0.0.1:PORT/metrics

No label holds a user, an item or a text.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, NamedTuple

from models.errors import UsageError
from models.ranking.index import read_pointer
from models.records import MICROS_PER_SECOND, Micros
from models.times import wall_clock
from pipeline.inputs.growing_files import bytes_unread
from pipeline.listening import in_url
from pipeline.live.freshness import BOUNDS, AgeHistogram
from pipeline.live.run import LiveRun
from pipeline.tables.output_folder import local_path
from transforms.live_store import live_store
from transforms.score_late import score_queue

#: The label that a sample has its name by, where that is not its family's.
NAME: Final = "__name__"
_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metric(NamedTuple):
    """One family: its samples are (labels, value)."""

    name: str
    kind: str  # counter, gauge or histogram
    help: str
    samples: list[tuple[dict[str, str], float]]


def metrics_of(run: LiveRun) -> Iterator[Metric]:
    """What is known of a run at this moment."""
    state, store = run.state, live_store(run.run_id)
    books = sorted(state.books().items())
    yield Metric(
        "livelist_records_total",
        "counter",
        "Records by what became of them; the account input is all of them.",
        [({"account": code}, count) for code, count in books],
    )
    yield one("livelist_lists_total", "counter", "Lists that were refreshed by this process.", state.lists)
    yield one("livelist_bundles_total", "counter", "Bundles that are done, restarts included.", state.bundle)
    fresh = state.freshness.recent_quantiles()
    places = ("0.5", "0.95", "0.99")
    yield Metric(
        "livelist_freshness_seconds",
        "gauge",
        "From the arrival of feedback to its list, at most, of recent feedback.",
        [({"quantile": place}, value) for place, value in zip(places, fresh or (), strict=bool(fresh))],
    )
    yield Metric(
        "livelist_event_freshness_seconds",
        "histogram",
        "From the time of an event to the list that takes it in: written, or found to show nothing new.",
        [
            *of_ages("behaviour", state.freshness.behaviour),
            *of_ages("words", state.freshness.words),
        ],
    )
    yield one("livelist_bundle_seconds_total", "counter", "Time in bundles.", state.busy_seconds)
    yield one("livelist_users", "gauge", "Users with a state.", len(store.states))
    told = "What is kept of users and texts: states, lists that are held back, vectors."
    yield one("livelist_state_bytes", "gauge", told, store.kept_bytes())
    yield one("livelist_lists_held_back", "gauge", "Lists that show nothing new.", len(store.waiting))
    yield one("livelist_text_vectors", "gauge", "Texts whose vectors are kept.", len(store.vectors))
    yield from _of_lane(run)
    yield from _of_tables(run)
    yield from _of_sources(run)
    yield from _of_sinks(run)
    yield one("livelist_resident_bytes", "gauge", "Memory of this process.", resident_bytes())
    yield one("process_cpu_seconds_total", "counter", "Processor time of this process.", time.process_time())


def of_ages(feedback: str, ages: AgeHistogram) -> Iterator[tuple[dict[str, str], float]]:
    """Samples of a histogram, which go by names of their own."""
    counts, told = ages.cumulative(), {"feedback": feedback}
    name = "livelist_event_freshness_seconds"
    for bound, count in zip((*BOUNDS, "+Inf"), counts, strict=True):
        yield {NAME: f"{name}_bucket", "le": str(bound)} | told, count
    yield {NAME: f"{name}_sum"} | told, ages.seconds
    yield {NAME: f"{name}_count"} | told, counts[-1]


def _of_lane(run: LiveRun) -> Iterator[Metric]:
    if run.lane is None:
        return
    lane = run.lane
    yield one("livelist_texts_scored_total", "counter", "Texts that the encoder has read.", lane.texts)
    yield one("livelist_inference_seconds_total", "counter", "Time in the encoder.", lane.seconds)
    yield one(
        "livelist_texts_failed_total",
        "counter",
        "Texts without a score.",
        score_queue(run.run_id).failed,
    )
    told = "Log that the lists have taken in and whose texts wait for the encoder."
    yield one("livelist_text_lag_bytes", "gauge", told, lane.bytes_behind())
    told = "1 while texts are scored, 0 when a fault has ended that."
    yield one("livelist_text_lane_up", "gauge", told, int(not lane.error))
    model = lane.model
    named = {"name": model.name, "version": model.version}
    yield info("livelist_model_info", "The model that scores.", named)


def _of_tables(run: LiveRun) -> Iterator[Metric]:
    index = read_pointer(local_path(run.config.output))
    version = "" if index is None else index.name
    yield info("livelist_index_info", "The published item index.", {"version": version})
    if run.indexer is not None:
        yield one("livelist_index_rebuilds_total", "counter", "Indexes built.", run.indexer.rebuilds)
        yield one("livelist_index_failures_total", "counter", "Indexes not built.", run.indexer.failures)
    if run.tables is not None:
        yield one("livelist_snapshots_total", "counter", "Tables published.", run.tables.snapshots)
        yield one("livelist_snapshot_failures_total", "counter", "Tables not published.", run.tables.failures)
        yield one(
            "livelist_checkpoint_seconds",
            "gauge",
            "Time that the last checkpoint took.",
            run.tables.checkpoint_seconds,
        )
    age = time.time() - run.state.snapshot_time if run.state.snapshot_time else float("nan")
    yield one("livelist_tables_age_seconds", "gauge", "Since the tables were published.", age)


def _of_sources(run: LiveRun) -> Iterator[Metric]:
    told = "What followed files, and the spools of what was pulled, hold and no bundle has read."
    yield one("livelist_log_lag_bytes", "gauge", told, bytes_unread(run.state.cursor))
    numbered = [({"source": str(place)}, puller) for place, puller in enumerate(run.pullers)]
    if not numbered:
        return
    yield Metric(
        "livelist_messages_total",
        "counter",
        "Messages that are on disk, by the order of --input.",
        [(labels, puller.received) for labels, puller in numbered],
    )
    yield Metric(
        "livelist_messages_repeated_total",
        "counter",
        "Deliveries of messages that were here already.",
        [(labels, puller.repeated) for labels, puller in numbered],
    )
    known = [(labels, puller.backlog) for labels, puller in numbered]
    waiting = [(labels, float(backlog)) for labels, backlog in known if backlog is not None]
    yield Metric("livelist_source_lag_messages", "gauge", "Messages that wait at the broker.", waiting)
    yield Metric(
        "livelist_source_oldest_held_seconds",
        "gauge",
        "Since the oldest message was published that came and is not acknowledged; 0 without one.",
        [(labels, _seconds_since(puller.oldest_held)) for labels, puller in numbered],
    )


def _of_sinks(run: LiveRun) -> Iterator[Metric]:
    numbered = [({"sink": str(place)}, feeder) for place, feeder in enumerate(run.feeders)]
    if not numbered:
        return
    yield Metric(
        "livelist_sink_files_waiting",
        "gauge",
        "Files that a sink does not have yet, by the order of --output.",
        [(labels, feeder.waiting()) for labels, feeder in numbered],
    )
    yield Metric(
        "livelist_sink_failures",
        "gauge",
        "Failures in a row; 0 while the sink takes what it is given.",
        [(labels, feeder.counts.failures) for labels, feeder in numbered],
    )
    yield Metric(
        "livelist_sink_rows_refused_total",
        "counter",
        "Rows that a sink will never take, set aside below its outbox.",
        [(labels, feeder.counts.refused) for labels, feeder in numbered],
    )


def one(name: str, kind: str, about: str, value: float) -> Metric:
    """A family of one sample."""
    return Metric(name, kind, about, [({}, value)])


def info(name: str, about: str, told: dict[str, str]) -> Metric:
    """A family whose labels are what it tells."""
    return Metric(name, "gauge", about, [(told, 1)])


def _seconds_since(moment: Micros | None) -> float:
    return 0.0 if moment is None else max(0.0, (wall_clock() - moment) / MICROS_PER_SECOND)


def rendered(metrics: Iterator[Metric]) -> str:
    """The text format, version 0.0.4."""
    lines: list[str] = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        for labels, value in metric.samples:
            told = {label: text for label, text in labels.items() if label != NAME}
            pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in told.items())
            name = labels.get(NAME, metric.name)
            lines.append(f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def resident_bytes() -> int:
    """The memory of this process that is in RAM; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@contextmanager
def served_metrics(port: int, text: Callable[[], str], host: str = "127.0.0.1") -> Iterator[str]:
    """Serves `text()` until the end; yields the URL. A port of 0 leaves the choice to the system.

    Raises UsageError where the port is taken or the host is no address of this machine.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/metrics"
            body = text().encode() if found else b"see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", _TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Requests are not logged."""

    class Server(ThreadingHTTPServer):
        """Of the family of `host`."""

    try:
        Server.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        server = Server((host, port), Handler)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"--metrics_port {port}: cannot listen on {host}:{port}: {why}") from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{in_url(host)}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
