"""JSONTestSuite as bodies of requests: none is an event, each is kept with its bytes, none is a defect.

A body that is a list is cut into its elements, which are dead letters one by one; any other is one dead letter.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import httpx
import pytest

from chart_platform.edge.http import cut
from chart_platform_tests.edge.collecting import Collecting, headers_of

pytestmark = pytest.mark.kafka

NO_JSON = {"invalid_json", "invalid_utf8", "empty"}


@pytest.fixture(scope="module")
def bodies() -> dict[str, bytes]:
    folder = Path(os.environ.get("CHART_CASES") or Path(__file__).parents[2] / "../shared/cases").resolve()
    if not folder.is_dir():
        pytest.skip(f"no foreign cases in {folder}: set CHART_CASES to the folder that holds them")
    files = sorted((folder / "json_parsing" / "test_parsing").glob("*.json"))
    assert len(files) == 318
    return {file.stem: file.read_bytes() for file in files}


def judged_rightly(name: str, answer: httpx.Response) -> bool:
    """Whether the answer fits what the suite says of the body: ``y_`` is JSON, ``n_`` is not, ``i_`` may be."""
    if answer.status_code == 202:
        reasons = [reason for result in answer.json()["results"] for reason in result["reasons"]]
        return name[0] == "i" or (name[0] == "y" and all(reason["code"].startswith("schema_") for reason in reasons))
    code = answer.json()["error"]["code"]
    # A text or number alone is JSON, but holds no events.
    return answer.status_code == 400 and (name[0] == "i" or code in ({"not_events"} if name[0] == "y" else NO_JSON))


def test_each_body_is_judged_as_the_suite_says_and_kept_byte_for_byte(
    collector: Collecting, bodies: dict[str, bytes]
) -> None:
    letters = collector.dead_letters()
    letters.new()
    answers = {name: collector.post(body) for name, body in bodies.items()}
    wrong = {name: answer.text for name, answer in answers.items() if not judged_rightly(name, answer)}
    assert wrong == {}
    expected: Counter[bytes] = Counter()
    for name, body in bodies.items():
        if answers[name].status_code == 400:
            expected[body] += 1
        else:
            elements, _ = cut(body)
            assert {result["status"] for result in answers[name].json()["results"]} <= {"rejected"}, name
            assert len(elements) == len(answers[name].json()["results"])
            expected.update(elements)
    assert Counter(letter.value() for letter in letters.new()) == expected


def test_all_bodies_at_once_in_one_list_are_told_apart(collector: Collecting, bodies: dict[str, bytes]) -> None:
    """Whatever is JSON can be an element; odd neighbours harm nobody."""
    letters = collector.dead_letters()
    letters.new()
    elements = [body for name, body in bodies.items() if name[0] == "y"]
    answer = collector.post(b"[" + b",\n".join(elements) + b"]")
    assert answer.status_code == 202
    assert [result["status"] for result in answer.json()["results"]] == ["rejected"] * len(elements)
    found = letters.new()
    assert sorted(letter.value() for letter in found) == sorted(body.strip(b" \t\n\r") for body in elements)
    reasons = [json.loads(headers_of(letter)["reasons"]) for letter in found]
    assert all(one["code"].startswith("schema_") for listed in reasons for one in listed)
