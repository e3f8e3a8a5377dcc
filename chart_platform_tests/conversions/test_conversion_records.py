"""Every record of a file is found with its line and text, also when the file is damaged, in all its encodings."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chart_platform.conversions.networks import Network
from chart_platform.conversions.records import Record, Unreadable, records, shown
from chart_platform_tests.conversions.test_conversion_values import COLUMNS, network
from chart_platform_tests.transform.fixtures import settings

PLAIN = network()
HEADER = list(COLUMNS.values())
# No CR: a lone one ends a line for a spreadsheet, and no writer quotes it for that.
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=8)
ROWS = st.lists(
    st.lists(CELLS, min_size=5, max_size=5).filter(lambda row: any(cell.strip() for cell in row)), max_size=6
)


def read(data: bytes | str, suffix: str = ".csv", mapping: Network = PLAIN) -> list[Record]:
    return list(records(data.encode() if isinstance(data, str) else data, suffix, mapping))


def good(found: list[Record]) -> list[Any]:
    return [list(record.values.values()) for record in found if record.values is not None]


def codes(found: list[Record]) -> list[str]:
    return [record.problem.code for record in found if record.problem is not None]


@settings(max_examples=150)
@given(
    rows=ROWS,
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_spreadsheet_writes_is_read_back_whatever_is_in_its_cells(
    rows: list[list[str]], delimiter: str, encoding: str, ends: str
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=ends)
    writer.writerows([HEADER, *rows])
    found = read(out.getvalue().encode(encoding), ".csv", network(delimiter=delimiter))
    assert good(found) == rows and not codes(found)
    assert [record.number for record in found] == list(range(1, len(rows) + 1))


@settings(max_examples=100)
@given(rows=ROWS, indent=st.sampled_from([None, 2]))
def test_json_documents_and_lines_give_the_same_records(rows: list[list[str]], indent: int | None) -> None:
    objects = [dict(zip(HEADER, row, strict=True)) for row in rows]
    document = json.dumps({"meta": [1, {"rows": []}], "data": {"rows": objects}}, indent=indent)
    from_document = read(document, ".json", network(records="data.rows"))
    from_lines = read("\n".join(json.dumps(found) for found in objects), ".ndjson")
    assert good(from_document) == good(from_lines) == rows
    assert [json.loads(record.raw) for record in from_document] == objects


def test_records_tell_their_lines_behind_quoted_newlines_and_blank_lines() -> None:
    found = read('id,s,t,c,y\r\n\r\n1,"two\r\nlines",,,\r\n2,,,,\r\n')
    assert [(record.number, record.line) for record in found] == [(1, 3), (2, 5)]
    assert found[0].raw == '1,"two\nlines",,,'


@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n", "id,s,t,c,y\n"])
def test_a_file_without_records_is_an_empty_one(content: str) -> None:
    assert read(content) == []


def test_a_row_of_another_width_is_refused_and_the_others_stay() -> None:
    found = read("id,s,t,c,y\n1,a,b,c\n2,a,b,c,d\n3,a,b,c,d,e\n")
    assert codes(found) == ["width", "width"] and good(found) == [["2", "a", "b", "c", "d"]]


def test_a_quote_that_never_closes_spoils_one_line_only() -> None:
    found = read('id,s,t,c,y\n1,"a,b,c,d\n2,a,b,c,d\n3,a,b,c,d\n')
    assert codes(found) == ["not_csv"]
    assert [values[0] for values in good(found)] == ["2", "3"]
    assert [record.number for record in found] == [1, 2, 3]


def test_a_stray_byte_spoils_one_record_only() -> None:
    found = read(b"id,s,t,c,y\n1,caf\xe9,,,\n2,,,,\n")
    assert len(good(found)) == 2
    assert shown(found[0].raw) == "1,caf\\xe9,,,"
    assert good(read(b"id,s,t,c,y\n1,caf\xe9,,,\n", ".csv", network(encoding="latin-1"))) == [["1", "café", "", "", ""]]


@pytest.mark.parametrize(
    ("content", "suffix", "code"),
    [
        ("id,s,t,c\n1,2,3,4\n", ".csv", "missing_column"),
        ("id,s,t,c,y,C \n1,2,3,4,5,6\n", ".csv", "duplicate_column"),
        ('id,"s', ".csv", "header"),
        ("x", ".xlsx", "unknown_format"),
        ("{}", ".json", "not_json"),
        ('{"a":1', ".json", "not_json"),
        (b"\xff\xfea", ".csv", "encoding"),
    ],
)
def test_a_file_none_of_whose_records_can_be_taken_says_why(content: str | bytes, suffix: str, code: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read(content, suffix)
    assert refused.value.code == code


def test_a_column_that_no_mapping_names_may_be_there_twice() -> None:
    assert len(good(read("id,note,note,s,t,c,y\n1,2,3,4,5,6,7\n"))) == 1


def test_a_document_that_breaks_off_gives_what_came_before_and_the_rest_as_one_record() -> None:
    found = read('[{"id": 1}, {"id": 2}, {"id": 3, "s"', ".json")
    assert len(good(found)) == 2 and codes(found) == ["not_json"]
    assert found[-1].raw == '{"id": 3, "s"'
    assert codes(read('[{"id": 1}', ".json")) == ["not_json"]
    assert codes(read('[{"id": 1},', ".json")) == ["not_json"]


def test_json_numbers_are_exact_members_are_found_by_path_and_doubled_ones_are_told() -> None:
    (found,) = read('{"a": {"B": 0.1}, "c": 1, "C": 2, "d": 3, "d": 4}', ".jsonl")
    assert found.values is not None and found.values["a.b"] == Decimal("0.1")
    assert found.doubled == {"c", "d"}


@pytest.mark.parametrize("line", ["NaN", "{", "[1]", '"text"', '{"a": Infinity}', "[" * 100_000])
def test_a_line_that_is_no_object_is_refused_and_the_next_one_stays(line: str) -> None:
    found = read(f'{line}\n{{"id": 1}}\n', ".ndjson")
    assert len(codes(found)) == 1 and good(found) == [[1]]
    assert [record.line for record in found] == [1, 2]
