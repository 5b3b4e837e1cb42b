"""The server as such: what it serves, whom it answers, how changes are told, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.listening import is_loopback
from pipeline.ui.server import ENDPOINTS
from pipeline.ui.serving import listen
from tests.models.table_records import top_k
from tests.pipeline.tables.runs import RECORDS, publish_records
from tests.pipeline.ui.pages import Page, page_at, served

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "pipeline" / "ui" / "page"


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")]
)
def test_the_page_is_served_and_may_load_only_what_is_its_own(page: Page, path: str, kind: str) -> None:
    answer = page.get(path)
    assert answer.status == 200
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]


def test_the_page_works_offline_and_reads_no_data_as_html() -> None:
    names = {"http://www.w3.org/2000/svg"}
    for path in PAGE.iterdir():
        text = path.read_text()
        assert set(re.findall(r"https?://[^\s\"')]+", text)) <= names
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        assert not re.search(r"<script>|\son\w+=\"|style=\"", text)  # the policy would not run them


def test_every_documented_endpoint_answers(page: Page) -> None:
    assert page.get("/api").json["endpoints"] == ENDPOINTS
    for path in ENDPOINTS:
        if path != "/api/changes":
            asked = path.partition("?")[0].replace("{id}", "user03")
            assert page.get(asked).status == 200, path


def test_anything_else_is_not_there(page: Page) -> None:
    assert page.get("/api/nothing").json["error"] == "not_found"
    for path in ("/../setup.py", "/page/../server.py", "/%2e%2e/server.py", "/.published.json"):
        assert page.get(path).status == 404
    assert page.get("/api/users", method="POST").status == 405


def test_a_web_site_that_points_its_name_at_this_machine_is_refused(page: Page) -> None:
    assert page.get("/api/users", host="evil.example:8321").status == 400
    assert page.get("/api/users", host=f"localhost:{page.port}").status == 200


def test_looking_changes_nothing_in_the_folder(page: Page, output: Path) -> None:
    def standing() -> dict[str, tuple[int, int]]:
        found = ((path, path.stat()) for path in output.rglob("*"))
        return {str(path): (stat.st_ino, stat.st_mtime_ns) for path, stat in found}

    before = standing()
    for path in (
        "/",
        "/api/users?q=u",
        "/api/users/user03/list",
        "/api/users/user03/history",
        "/api/overview",
    ):
        assert page.get(path).status == 200
    assert standing() == before


def test_a_change_of_the_tables_is_told_to_those_who_listen(tmp_path: Path) -> None:
    publish_records(tmp_path, RECORDS, "run-1")
    with served(tmp_path) as page, page.changes() as changes:
        first = next(changes)
        publish_records(tmp_path, {"recommendations": [top_k("dora", 10)]}, "run-2", "append")
        # A look may fall between two tables of one publication.
        for stamps in changes:
            if stamps["recommendations_latest"] != first["recommendations_latest"]:
                break
        assert stamps["recommendations"] != first["recommendations"]
        assert stamps["scored_feedback"] == first["scored_feedback"]


def test_a_stream_that_somebody_listens_to_ends_with_the_server(tmp_path: Path) -> None:
    with ExitStack() as held:
        with served(tmp_path) as page:
            changes = held.enter_context(page.changes())
            next(changes)
        assert next(changes, None) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_with_0_though_somebody_listens(output: Path, number: int) -> None:
    command = [sys.executable, "-m", "pipeline.cli.main", "ui", "--output", str(output), "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line
        page = page_at(found[0])
        assert page.get("/healthz").json["status"] == "ok"
        with page.changes() as changes:
            next(changes)
            running.send_signal(number)
            rest, errors = running.communicate(timeout=60)
        assert (running.returncode, rest, errors) == (0, "", "")
    finally:
        running.kill()
        running.wait()


def test_a_taken_port_is_a_clear_error(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--output", str(output), "--port", str(port)]) == 2
    told = capsys.readouterr().err
    assert told == (
        f"livelist: cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "--output is needed"),
        (["--output", "none"], 3, "none: there is no such folder; make the tables first: livelist run"),
        (["--output", "s3://bucket/out"], 2, "the page reads a folder of this machine"),
        (["--output", ".", "--port", "70000"], 2, "--port: expected 0 to 65535, got 70000"),
        (["--output", ".", "--host", "no.such.host.invalid"], 2, "--host no.such.host.invalid"),
        (["--outptu", "."], 2, "did you mean --output?"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    arguments: list[str],
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ui", *arguments]) == code
    shown = capsys.readouterr().err
    assert told in shown and shown.count("\n") == 1


def test_without_its_packages_the_command_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["ui", "--output", str(tmp_path)]) == 5
    assert capsys.readouterr().err == "livelist: livelist ui needs: pip install 'livelist[ui]'\n"


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("192.168.1.5", False), ("::", False), ("example.com", False)],
)  # fmt: skip
def test_only_addresses_of_this_machine_go_without_a_warning(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_reading_local_tables_for_the_page_imports_no_beam() -> None:
    code = "import sys, pipeline.ui.serving; print('apache_beam' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert shown.stdout == "False\n"
