"""Training data: what is read from files and columns, and what is refused, in which words."""

from __future__ import annotations

import csv
import gzip
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.training.labels import (
    Labelled,
    LabelRules,
    in_share,
    label_examples,
    order_sentiments,
    rating_class,
    read_label_file,
)
from models.training.reading import read_data
from models.training.tasks import LabelledTexts, Task, concatenate, one_hot, parse_feature

Rows = Sequence[Mapping[str, object]]


def _write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _label(folder: Path, rows: Rows, rules: LabelRules | None = None) -> Labelled:
    examples, _ = read_data([_write(folder / "data.jsonl", rows)])
    return label_examples(examples, rules or LabelRules())


def _rated(count: int = 20) -> list[dict[str, object]]:
    return [{"text": f"review number {i}", "rating": i % 5 + 1} for i in range(count)]


def test_a_products_category_is_an_intent_only_when_it_is_named(tmp_path: Path) -> None:
    rows = [{**row, "category": "shoes" if i % 2 else "books"} for i, row in enumerate(_rated())]
    assert [task.name for task in _label(tmp_path, rows).tasks] == ["sentiment", "intensity"]
    examples, _ = read_data([tmp_path / "data.jsonl"], {"intent": "category"})
    assert label_examples(examples, LabelRules()).tasks[-1].labels == ("books", "shoes")


def test_half_of_a_surrogate_pair_is_left_out_and_told(tmp_path: Path) -> None:
    broken: list[dict[str, object]] = [{"text": "good \ud83d", "rating": 5}, {"text": None, "rating": 1}]
    made = _label(tmp_path, [*_rated(), *broken])
    assert len(made.texts) == 20
    assert made.notes == ("1 rows without a text", "1 texts with half of a surrogate pair")
    with pytest.raises(InputError, match=r"got 0 among 9 rows \(9 texts with half of a surrogate pair\)"):
        _label(tmp_path, broken[:1] * 9)


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    rows = [{"text": "a, b", "rating": "3"}, {"text": "第二", "rating": "5"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    with (tmp_path / "c.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["text", "rating"])
        writer.writeheader()
        writer.writerows(rows)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.write(tmp_path / "c.csv", "inside/c.csv")
        archive.writestr("__MACOSX/c.csv", "junk")
    for name in ("a.jsonl", "b.jsonl.gz", "c.csv", "d.zip"):
        examples, files = read_data([tmp_path / name])
        assert [dict(example.values) for example in examples] == rows
        assert files[0].rows == 2
    assert len(read_data([tmp_path])[0]) == 8


def test_columns_are_mapped_and_usual_names_are_found(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", [{"body": "x", "overall": 4, "mood": "good"}])
    examples, files = read_data([path], {"text": "body", "sentiment": "mood"})
    assert examples[0].values == {"text": "x", "sentiment": "good", "rating": 4}
    assert files[0].columns == {"text": "body", "sentiment": "mood", "rating": "overall"}


@pytest.mark.parametrize(
    ("content", "columns", "says"),
    [
        ('{"text": "x"}\n', {"text": "body"}, "has no column 'body' for text; it has text"),
        ('{"text": "x"}\n', {"txt": "text"}, "there is no field 'txt'"),
        ('{"words": "x"}\n', {}, "no column of texts; it has words"),
        ("[1]\n", {}, "line 1: expected a JSON object, got list"),
        ("{\n", {}, "line 1: expected one JSON object a line"),
        ("[" * 100_000 + "\n", {}, "line 1: expected one JSON object a line: maximum recursion depth"),
    ],
)
def test_data_that_cannot_be_read_is_refused(
    tmp_path: Path, content: str, columns: dict[str, str], says: str
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        read_data([path], columns)


def test_a_missing_file_an_unknown_suffix_and_a_cut_archive_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"x")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"text\nx\n" * 1000)[:30])
    for name, says in (("none.csv", "no file"), ("a.parquet", "ends in"), ("b.csv.gz", "cannot read")):
        with pytest.raises(InputError, match=says):
            read_data([tmp_path / name])


def test_ratings_make_sentiment_and_intensity(tmp_path: Path) -> None:
    made = _label(tmp_path, _rated())
    assert [(task.name, task.kind, len(task.labels)) for task in made.tasks] == [
        ("sentiment", "classes", 3),
        ("intensity", "number", 0),
    ]
    assert made.texts.targets["sentiment"][:5].argmax(axis=1).tolist() == [0, 0, 1, 2, 2]
    assert made.texts.targets["intensity"][:5, 0].tolist() == [1, 0.5, 0, 0.5, 1]


def test_absent_labels_are_unknown_and_other_tasks_are_kept(tmp_path: Path) -> None:
    asked: list[dict[str, object]] = [{"text": f"where is it {i}", "intent": "ab"[i % 2]} for i in range(10)]
    made = _label(tmp_path, [*_rated(10), *asked])
    assert made.texts.known("sentiment").sum() == made.texts.known("intent").sum() == 10
    assert not (made.texts.known("sentiment") & made.texts.known("intent")).any()


def test_out_of_scope_is_no_class_but_the_uniform_target(tmp_path: Path) -> None:
    rows = [{"text": f"t {i}", "intent": ("refund", "delivery", "oos")[i % 3]} for i in range(12)]
    made = _label(tmp_path, rows)
    assert made.tasks[0].labels == ("delivery", "refund")
    assert made.texts.targets["intent"][2].tolist() == [0.5, 0.5]


def test_topics_may_be_lists_or_names_with_semicolons(tmp_path: Path) -> None:
    rows = [{"text": f"t {i}", "topics": (["size"], "size; price", [])[i % 3]} for i in range(9)]
    made = _label(tmp_path, rows)
    assert made.texts.targets["topics"][:3].tolist() == [[0, 1], [1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"text": f"t{i}", "sentiment": "positive"} for i in range(9)], "one class only: 'positive'"),
        ([{"text": f"t{i}", "rating": "NaN"} for i in range(9)], "all 9 ratings are NaN"),
        ([{"text": f"t{i}", "rating": 11} for i in range(9)], "rating 11 is outside 1:5"),
        ([{"text": f"t{i}", "rating": "good"} for i in range(9)], "expected a number as rating, got 'good'"),
        ([{"text": " ", "rating": 1} for _ in range(9)], "expected 8 texts or more, got 0 among 9 rows"),
        ([{"text": f"t{i}"} for i in range(9)], "nothing to learn"),
        ([{"text": f"t{i}", "intensity": 0.5} for i in range(9)], "every intensity is 0.5"),
        ([{"text": f"t{i}", "topics": ["a"]} for i in range(9)], "every text has the same topics"),
        ([{"text": f"t{i}", "sentiment": f"mood {i % 2}"} for i in range(9)], "no order that is known"),
        ([{"text": f"t{i}", "sentiment": i} for i in range(9)], "9 classes, expected 2 to 5"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_is_refused(tmp_path: Path, rows: Rows, says: str) -> None:
    with pytest.raises(InputError, match=says):
        _label(tmp_path, rows)


def test_some_nan_ratings_are_left_out_and_told(tmp_path: Path) -> None:
    made = _label(tmp_path, [*_rated(), {"text": "odd", "rating": float("nan")}])
    assert made.notes == ("1 ratings that are NaN or infinite",)
    assert not made.texts.known("sentiment")[-1]


def test_a_label_file_fixes_the_names_and_must_cover_the_data(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"sentiment": ["meh", "wow"]}')
    rows = [{"text": f"t{i}", "sentiment": ("wow", "meh")[i % 2]} for i in range(9)]
    made = _label(tmp_path, rows, LabelRules(labels=read_label_file(path)))
    assert made.tasks[0].labels == ("negative", "positive")
    assert made.texts.targets["sentiment"][0].tolist() == [0, 1]
    path.write_text('{"sentiment": ["meh", "hm"]}')
    with pytest.raises(InputError, match="the label 'wow', which is not among"):
        _label(tmp_path, rows, LabelRules(labels=read_label_file(path)))
    path.write_text('{"mood": ["meh", "wow"]}')
    with pytest.raises(InputError, match="expected an object like"):
        read_label_file(path)


WORDS = ("very negative", "negative", "neutral", "positive", "very positive")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("positive", "neutral", "negative"), WORDS[1:4]),
        (("Positive", "Negative"), ("Negative", "Positive")),
        (("negative", "very negative", "positive", "very positive"), WORDS[:2] + WORDS[3:]),
        (("negative", "neutral"), WORDS[1:4]),
        (("neutral", "positive", "very positive"), WORDS),
        (("negative", "neutral", "positive", "very positive"), WORDS),
        (("very negative", "negative", "positive"), WORDS[:2] + WORDS[3:]),
    ],
)
def test_well_known_sentiments_are_refused_where_they_would_be_read_as_others(
    tmp_path: Path, labels: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    says = re.escape(f"got {list(labels)}: write {json.dumps(expected)} in --labels")
    with pytest.raises(InputError, match=says):
        LabelRules(labels={"sentiment": labels})
    rows = [{"text": f"t{i}", "sentiment": labels[i % len(labels)]} for i in range(20)]
    if set(expected) != set(labels):  # of the data alone the order is known, a side may lack
        with pytest.raises(InputError, match=re.escape(f"write {json.dumps(expected)} in --labels")):
            _label(tmp_path, rows)
    made = _label(tmp_path, rows, LabelRules(labels={"sentiment": expected}))
    assert made.tasks[0].labels == tuple(name.lower() for name in expected)


@pytest.mark.parametrize(
    "labels", [("bad", "good"), ("bad", "neutral", "good"), ("awful", "negative", "positive", "superb"),
               ("5", "4", "3", "2", "1"), ("very negative", "neutral", "very positive")],
)  # fmt: skip
def test_own_names_for_sentiment_are_taken_in_the_order_given(labels: tuple[str, ...]) -> None:
    assert LabelRules(labels={"sentiment": labels}).labels["sentiment"] == labels


def test_sentiments_from_ratings_are_named_as_they_are_served(tmp_path: Path) -> None:
    made = _label(tmp_path, _rated(), LabelRules(labels={"sentiment": ("bad", "so so", "good")}))
    assert made.tasks[0].labels == ("negative", "neutral", "positive")
    assert made.texts.targets["sentiment"][:5].argmax(axis=1).tolist() == [0, 0, 1, 2, 2]
    with pytest.raises(InputError, match="sentiment has 6 classes, expected 2 to 5"):
        LabelRules(labels={"sentiment": ("a", "b", "c", "d", "e", "f")})


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 5))
def test_a_better_rating_is_never_a_worse_class(a: float, b: float, classes: int) -> None:
    low, high = rating_class(min(a, b), classes), rating_class(max(a, b), classes)
    assert low is None or high is None or 0 <= low <= high < classes


def test_labels_are_ordered_from_worst_to_best() -> None:
    assert order_sentiments({"Positive", "negative", "neutral"}) == ("negative", "neutral", "Positive")
    assert order_sentiments({"10", "2", "-1"}) == ("-1", "2", "10")


@given(st.text())
def test_the_share_of_a_text_depends_on_the_text_alone(text: str) -> None:
    assert in_share(text, 0.3) == in_share(f" {text} ", 0.3)
    assert not in_share(text, 0.0)


def test_sets_are_joined_with_unknown_targets() -> None:
    a = LabelledTexts(["a"], {"x": one_hot([1], 2)}, sets=["s"])
    b = LabelledTexts(["b", "c"], {"y": np.ones((2, 1), np.float32)})
    joined = concatenate([a, b])
    assert joined.known("x").tolist() == [True, False, False]
    assert joined.known("y").tolist() == [False, True, True]
    assert joined.take([2, 0]).texts == ["c", "a"]


def test_tasks_and_targets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="two classes"):
        Task("x", "classes", ("only",))
    with pytest.raises(ValueError, match="a number has none"):
        Task("x", "number", ("a", "b"))
    with pytest.raises(ValueError, match="like cls, mean"):
        parse_feature("max")
    with pytest.raises(ValueError, match="expected 1 rows"):
        LabelledTexts(["a"], {"x": one_hot([0, 1], 2)})
