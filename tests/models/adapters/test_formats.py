"""Public formats become the same records, without a script."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.adapters import FORMATS, adapter_of
from models.adapters.base import parse_event, parse_item
from models.adapters.csv import parse_pairs
from models.adapters.framing import split_records
from models.errors import BadRecord, UsageError
from models.records import FeedbackEvent, Item

DAY_2014 = 1_393_545_600_000_000  # 2014-02-28
AMAZON_CSV = (
    "reviewerID,asin,reviewerName,helpful,reviewText,overall,summary,unixReviewTime,reviewTime\n"
    'A2IB,1384719342,"cassandra tu ""Yeah""","[0, 0]","Not much,\n'
    'but it works",5.0,good,1393545600,"02 28, 2014"\n'
)


def events(content: str, form: str, *options: Any) -> list[FeedbackEvent]:
    adapter = adapter_of(form, *options)
    read = split_records(iter([content.encode()]), adapter, "f", 9999)
    return [parse_event(adapter, record) for record in read]


def items(content: str | bytes, form: str) -> list[Item]:
    adapter = adapter_of(form)
    encoded = content.encode() if isinstance(content, str) else content
    read = split_records(iter([encoded]), adapter, "f", 9999, False)
    return [parse_item(adapter, record) for record in read]


def test_amazon_csv_of_2014_gives_reviews_without_names() -> None:
    (event,) = events(AMAZON_CSV, "amazon")
    assert event == FeedbackEvent(
        "f:0000000002",
        "A2IB",
        "review",
        DAY_2014,
        "1384719342",
        5.0,
        "good. Not much,\nbut it works",
        attributes=(("helpful", '"[0, 0]"'),),
        source_position="f:0000000002",
    )


def amazon(**changes: object) -> str:
    row = {
        "overall": 4.0,
        "verified": True,
        "reviewTime": "02 28, 2014",
        "reviewerID": "A1",
        "asin": "B1",
        "reviewerName": "Jo",
        "reviewText": "Fits well",
        "summary": "Nice!",
        "unixReviewTime": 1393545600,
    }
    return json.dumps({name: value for name, value in {**row, **changes}.items() if value is not None})


def test_amazon_json_of_2018_gives_reviews_without_names() -> None:
    (event,) = events(amazon(), "amazon")
    assert (event.user_id, event.item_id, event.rating, event.event_time) == ("A1", "B1", 4.0, DAY_2014)
    assert event.text == "Nice! Fits well"
    assert event.attributes == (("verified", "true"),)


@pytest.mark.parametrize(
    ("summary", "text", "joined"),
    [
        ("Five Stars", "Great", "Great"),
        ("Four stars", None, None),
        ("Great", "Great strings", "Great strings"),
        (None, "Great", "Great"),
        ("Great", None, "Great"),
        (None, None, None),
    ],
)
def test_a_summary_leads_the_text_unless_it_only_repeats(
    summary: str | None, text: str | None, joined: str | None
) -> None:
    assert events(amazon(summary=summary, reviewText=text), "amazon")[0].text == joined


def test_amazon_falls_back_to_the_written_date() -> None:
    assert events(amazon(unixReviewTime=None), "amazon")[0].event_time == DAY_2014


def test_amazon_json_of_2023_is_read_too() -> None:
    row = {
        "user_id": "A1",
        "asin": "B1",
        "parent_asin": "B0",
        "rating": 5.0,
        "title": "Good",
        "text": "Warm",
        "timestamp": 1393545600000,
        "images": [],
    }
    (event,) = events(json.dumps(row), "amazon")
    assert (event.item_id, event.text, event.event_time) == ("B0", "Good. Warm", DAY_2014)


def test_amazon_metadata_of_2018_gives_items() -> None:
    meta = {
        "asin": "B1",
        "title": "Gift &amp; card",
        "description": ["<b>One</b>", "two"],
        "feature": ["three"],
        "category": ["Gift Cards", "Birthday"],
        "brand": "Acme",
        "price": "$1,012.50",
    }
    assert items(json.dumps(meta), "amazon") == [
        Item("B1", "Gift & card", "One two three", "Birthday", ("Gift Cards", "Acme"), 1012.5)
    ]


def test_amazon_metadata_of_2014_is_read_though_it_is_not_json() -> None:
    meta = "{'asin': '0001', 'title': \"Jo's\", 'categories': [['Music', 'Strings']], 'price': 3.5}\n"
    assert items(meta, "amazon") == [Item("0001", "Jo's", "", "Strings", ("Music",), 3.5)]


def test_amazon_junk_prices_are_left_out() -> None:
    assert items('{"asin": "B1", "price": "$5.00 - $20.00"}', "amazon")[0].price is None


@pytest.mark.parametrize(
    "content",
    [
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t242\t3\t881250949\n",
        "196::242::3::881250949\n",
        "196\t242\t3\t881250949\n",
        "userId,movieId,rating,timestamp\n196,242,3.0,881250949\n",
    ],
)
def test_every_movielens_file_gives_the_same_rating(content: str) -> None:
    (event,) = events(content, "movielens")
    assert (event.user_id, event.item_id, event.kind, event.rating) == ("196", "242", "rating", 3.0)
    assert event.event_time == 881_250_949_000_000


def test_movielens_items_have_genres_and_year_as_tags() -> None:
    expected = Item("1", "Toy Story", "", "Animation", ("Animation", "Comedy", "1995"))
    typed = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    assert items(typed + "1\tToy Story\t1995\tAnimation Comedy\n", "movielens") == [expected]
    named = Item("1", "Toy Story (1995)", "", "Animation", ("Animation", "Comedy", "1995"))
    assert items("1::Toy Story (1995)::Animation|Comedy\n", "movielens") == [named]
    csv = 'movieId,title,genres\n1,"Toy Story (1995)",Animation|Comedy\n2,"X, The",(no genres listed)\n'
    assert items(csv, "movielens") == [named, Item("2", "X, The")]


def test_movielens_titles_may_be_latin_1() -> None:
    assert items("1::Amélie (2001)::Comedy\n".encode("latin-1"), "movielens")[0].title == "Amélie (2001)"


CSV = "reviewer;sku;stars;words;when;colour\nu1;i1;4,5;good;2026-01-31;red\n"
MAPPED = (
    ("user_id", "reviewer"),
    ("item_id", "sku"),
    ("rating", "stars"),
    ("text", "words"),
    ("event_time", "when"),
)


def test_csv_is_read_by_its_mapping_and_constants() -> None:
    (event,) = events(CSV.replace("4,5", "4.5"), "csv", MAPPED, (("kind", "review"),))
    assert (event.user_id, event.item_id, event.kind, event.rating) == ("u1", "i1", "review", 4.5)
    assert (event.text, event.attributes) == ("good", (("colour", '"red"'),))


def test_csv_with_the_schemas_own_names_needs_no_mapping() -> None:
    (event,) = events("user_id,kind,event_time,item_id,revision\nu1,click,1769860800,i1,2\n", "csv")
    assert (event.kind, event.revision, event.rating) == ("click", 2, None)


def test_one_csv_column_may_serve_two_fields() -> None:
    mapped = (("user_id", "who"), ("event_id", "id"), ("item_id", "id"), ("event_time", "t"))
    (event,) = events("who,id,t\nu1,7,1769860800\n", "csv", mapped, (("kind", "view"),))
    assert (event.event_id, event.item_id) == ("7", "7")


def test_csv_times_may_be_written_in_any_form_that_is_told() -> None:
    table = "user_id,kind,event_time\nu1,click,24-02-2015 11.35\n"
    (event,) = events(table, "csv", (), (), "%d-%m-%Y %H.%M")
    assert event.event_time == 1_424_777_700_000_000
    with pytest.raises(BadRecord, match=r"expected the form %d/%m/%Y .* got '24-02-2015 11.35'"):
        events(table, "csv", (), (), "%d/%m/%Y")


@pytest.mark.parametrize("form", ["%H:%M", "day", "%m/%Y", "%Q"])
def test_a_form_of_time_that_tells_no_day_is_refused(form: str) -> None:
    with pytest.raises(UsageError, match="--time_format: expected a form that tells the day"):
        adapter_of("csv", (), (), form)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("u1;i1;4,5;good;2026-01-31;red", "wrong_type"),
        ("u1;i1;nan;good;2026-01-31;red", "invalid_number"),
        ("u1;i1;4;good;soon;red", "invalid_time"),
        ("u1;i1;4;good", "invalid_csv"),
        ("u1;i1;4;good;2026-01-31;red;more", "invalid_csv"),
        (";i1;4;good;2026-01-31;red", "missing_field"),
    ],
)
def test_a_csv_row_that_is_no_event_has_a_code(row: str, code: str) -> None:
    with pytest.raises(BadRecord) as caught:
        events(CSV.splitlines()[0] + "\n" + row, "csv", MAPPED, (("kind", "review"),))
    assert caught.value.error_code == code


def test_csv_catalogues_have_tags_and_availability() -> None:
    content = "item_id,title,tags,price,available\n1,Coat,warm|red,9.5,no\n2,Hat,,,yes\n"
    coat = Item("1", "Coat", tags=("warm", "red"), price=9.5, available=False)
    assert items(content, "csv") == [coat, Item("2", "Hat")]


@pytest.mark.parametrize("form", FORMATS)
def test_a_catalogue_in_our_own_schema_goes_with_every_format(form: str) -> None:
    assert items('{"item_id": "i1", "title": "Coat"}\n', form) == [Item("i1", "Coat")]


def test_a_misspelt_field_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"'usr_id' is none; did you mean user_id\?"):
        adapter_of("csv", (("usr_id", "reviewer"),))


def test_a_mapping_without_csv_is_refused() -> None:
    with pytest.raises(UsageError, match="belong to --format csv"):
        adapter_of("amazon", (("user_id", "reviewer"),))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="jsonl, amazon, movielens, csv"):
        adapter_of("xml")


def test_pairs_need_both_sides() -> None:
    assert parse_pairs("--map", ["user_id = who"]) == (("user_id", "who"),)
    for pair in ("user_id", "user_id=", "=who"):
        with pytest.raises(UsageError, match="--map expects FIELD=VALUE"):
            parse_pairs("--map", [pair])


headers = st.sampled_from([b"", b"a,b", b"user_id\titem_id", b"\xff", b'"x'])


@given(st.sampled_from(FORMATS), st.binary(), headers)
def test_no_payload_raises_anything_but_bad_record(form: str, payload: bytes, header: bytes) -> None:
    adapter = adapter_of(form)
    for read in (parse_event, parse_item):
        try:
            read(adapter, (payload, "f:0000000001", header, ""))
        except BadRecord as error:
            assert error.reason
