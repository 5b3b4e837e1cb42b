"""Commands on small input, in process: what they print, and the code they end with."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from models.cleaning import MICROS_1990, CleaningConfig, clean_event
from models.records import FeedbackEvent
from pipeline.cli.main import main

GOOD = '{"user_id": "u1", "kind": "like", "item_id": "i1", "event_time": "2024-01-31T12:00:00Z"}\n'


def test_validate_ends_with_0_when_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text(GOOD)
    assert main(["validate", "--input", str(events)]) == 0
    assert "1 records = 1 accepted + 0 rejected" in capsys.readouterr().out


def test_validate_ends_with_1_and_says_where_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text(GOOD + '{"user_id": "u1", "kind": "veiw"}\n[not json\n')
    assert main(["validate", "--input", str(events)]) == 1
    shown = capsys.readouterr().out
    assert "3 records = 1 accepted + 2 rejected" in shown
    assert "events.jsonl:0000000002" in shown
    assert "unknown_kind" in shown
    assert "invalid_json" in shown


def test_validate_prints_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text(GOOD + "[]\n")
    assert main(["validate", "--json", "--input", str(events)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["accepted"] == 1
    assert found["rejected"] == {"not_an_object": 1}
    assert found["examples"]["not_an_object"][0]["source_position"] == "events.jsonl:0000000002"


@pytest.mark.parametrize("command", ["run", "validate"])
def test_a_missing_input_ends_with_3(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--output", str(tmp_path / "out")] if command == "run" else []
    assert main([command, "--input", str(tmp_path / "none.jsonl"), *where]) == 3
    assert "none.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "validate"])
def test_a_source_that_never_ends_is_refused_without_its_password(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--output", str(tmp_path / "out")] if command == "run" else []
    assert main([command, "--input=kafka://h:9092/t?group=g&sasl.password=hunter2", *where]) == 2
    told = capsys.readouterr()
    assert "never ends: pass it as --input of `livelist run --streaming`" in told.err
    assert "hunter2" not in told.out + told.err


def test_an_output_that_cannot_be_written_ends_with_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events, output = tmp_path / "events.jsonl", tmp_path / "file"
    events.write_text(GOOD)
    output.write_text("in the way")
    assert main(["run", "--input", str(events), "--output", str(output)]) == 4
    assert "file" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [["--model", "nowhere"], ["--providers", "CUDAExecutionProvider"]],
)
def test_a_bad_deployment_ends_with_5(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "fine", *arguments]) == 5
    assert capsys.readouterr().err.count("\n") == 1


def test_score_prints_one_object_a_text_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "The zipper broke after a day.", "I love it!"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["polarity"] < 0 < second["polarity"]
    assert {"intensity", "sentiment", "topics", "intent", "confidence", "language"} <= first.keys()


def test_score_reads_lines_and_answers_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"great\n\ngreat\n")))
    assert main(["score"]) == 1
    first, empty, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == third
    assert "error" in empty


def test_score_tidies_texts_as_a_job_does(capsys: pytest.CaptureFixture[str]) -> None:
    empty = ["\u200b", "\ufeff", "\x07\x01", "<script>alert(1)</script>", "<br>"]
    assert main(["score", *empty, "I <b>love</b> it &amp; more\x07", "I love it & more"]) == 1
    *failed, tagged, plain = map(json.loads, capsys.readouterr().out.splitlines())
    assert failed == [{"error": "expected words, got an empty text"}] * len(empty)
    assert tagged == plain


def test_a_job_and_score_agree_on_a_long_text_whose_verdict_ends_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    story = "I got the coat on Monday and wore it to work. " * 200
    text = f"{story}It is terrible, the zipper broke and I want my money back. Mail me@example.com."
    event = FeedbackEvent("e", "u", "review", MICROS_1990, "i", text=text)
    tidied = clean_event(event, CleaningConfig(), MICROS_1990).text
    assert tidied is not None
    assert len(tidied) <= 4000 < len(text)
    main(["score", text, tidied])
    of_text, of_job = map(json.loads, capsys.readouterr().out.splitlines())
    assert of_text == of_job
    assert of_text["polarity"] < -0.5


def test_score_offers_no_none(capsys: pytest.CaptureFixture[str]) -> None:
    for command, offered in (("score", False), ("run", True)):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert ("none: score no texts" in " ".join(capsys.readouterr().out.split())) is offered


def test_doctor_says_what_is_missing_and_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    findings = json.loads(capsys.readouterr().out)
    names = {finding["name"] for finding in findings}
    assert {"python", "apache-beam", "onnxruntime", "model", "runner", "[train]", "java"} <= names
    assert all(finding["remedy"] for finding in findings if finding["level"] == "missing")


def test_doctor_ends_with_1_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", str(tmp_path)]) == 1
    assert "BROKEN" in capsys.readouterr().out


def test_recommend_without_tables_says_how_to_make_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", "--output", str(tmp_path / "none"), "--user", "u1"]) == 3
    assert "livelist run" in capsys.readouterr().err


def test_a_run_counts_lists_of_the_past_and_erased_users_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events, output = tmp_path / "events.jsonl", str(tmp_path / "out")
    erased = GOOD.replace("u1", "u2")
    erase = '{"user_id": "u2", "kind": "erase", "event_time": "2024-02-01T12:00:00Z"}\n'
    events.write_text(GOOD + GOOD.replace("i1", "i2").replace("u1", "u3") + erased + erase)
    command = ["run", "--input", str(events), "--output", output, "--model", "none", "--show_seen"]
    assert main([*command, "--emit_history"]) == 0
    shown = capsys.readouterr().out
    assert "2 lists, 2 in hindsight, 1 tombstone in " in shown


def test_a_list_without_a_key_from_tables_of_pseudonyms_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events, output = tmp_path / "events.jsonl", str(tmp_path / "out")
    events.write_text(GOOD)
    keyed = ["run", "--input", str(events), "--output", output, "--user_id_key=k", "--model=none"]
    assert main([*keyed, "--show_seen"]) == 0
    capsys.readouterr()
    assert main(["recommend", "--output", output, "--user", "u1"]) == 3
    assert "these tables hold pseudonyms: give --user_id_key" in capsys.readouterr().err
    assert main(["recommend", "--output", output, "--user=u1", "--user_id_key=k", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["event_time"] == "2024-01-31T12:00:00Z"


def test_a_run_that_accepted_nothing_says_why_and_guesses_the_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = tmp_path / "events.csv"
    events.write_text("user_id,item_id\nu1,i1\n")
    assert main(["run", "--input", str(events), "--output", str(tmp_path / "out"), "--model", "none"]) == 0
    shown = capsys.readouterr().out
    assert "nothing was accepted, most often for invalid_json: the line is not one JSON value" in shown
    assert "is it --format csv" in shown
