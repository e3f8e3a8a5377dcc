"""What an alert says, and that Slack can take it whatever the data holds."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from chart_platform.alerting.messages import (
    MAX_BLOCKS,
    MAX_HEADER,
    MAX_SECTION,
    MAX_TEXT,
    Alert,
    Failure,
    clip,
    compose,
    escape,
    headline,
    slack_text,
)

CHECK = Failure(
    kind="check:bronze/events:reconciled",
    title="Check reconciled of bronze/events",
    link="http://dagster/assets/bronze/events?view=checks&checkDetail=reconciled",
    partition="2026-11-20",
    detail="3 offsets are missing",
    figures={"missing": 3, "committed": 1_234_567, "share": 0.25, "topic": "chart.events", "late": True, "first": None},
    owners=("data@example.org",),
)
ALERT = Alert(
    run_id="0123456789abcdef",
    root_run_id="0123456789abcdef",
    job="events_to_gold",
    link="http://dagster/runs/0123456789abcdef",
    run_failed=False,
    failures=(CHECK,),
    partition="2026-11-20",
)


def markdown(alert: Alert, note: str = "") -> str:
    return "\n".join(block["text"]["text"] for block in compose(alert, note).blocks)


def test_a_message_names_what_failed_with_figures_owner_and_link() -> None:
    said = markdown(ALERT)
    assert "[ERROR] 1 check failed in events_to_gold" in said
    assert "*<http://dagster/assets/bronze/events?view=checks&amp;checkDetail=reconciled|Check reconciled of" in said
    for line in ("• missing: 3", "• committed: 1,234,567", "• share: 0.25", "• late: true", "• first: none"):
        assert line in said
    assert "Owner: data@example.org" in said
    assert "partition 2026-11-20" in said
    assert "*<http://dagster/runs/0123456789abcdef|run 01234567>*" in said
    text = compose(ALERT).text
    for part in ("missing: 3", "3 offsets are missing", "Owner: data@example.org", CHECK.link, ALERT.link):
        assert part in text


def test_many_failures_of_a_run_are_counted_in_one_headline() -> None:
    step = Failure("step:events_to_gold:bronze", "Step bronze", ALERT.link)
    both = replace(ALERT, run_failed=True, failures=(CHECK, replace(CHECK, kind="check:a:b"), step))
    assert headline(both) == "[ERROR] Run failed: 2 checks failed, 1 step failed in events_to_gold"
    run_only = replace(ALERT, run_failed=True, failures=(Failure("run:events_to_gold", "Run", ALERT.link),))
    assert headline(run_only) == "[ERROR] Run failed in events_to_gold"


def test_only_warnings_make_a_warning() -> None:
    assert headline(replace(ALERT, failures=(replace(CHECK, severity="WARN"),))).startswith("[WARN]")
    assert replace(ALERT, failures=(replace(CHECK, severity="WARN"), CHECK)).severity == "ERROR"


def test_a_failure_of_nobody_says_so() -> None:
    assert "Owner: unowned" in markdown(replace(ALERT, failures=(replace(CHECK, owners=()),)))


def test_user_data_cannot_call_a_channel_or_break_a_link() -> None:
    evil = "<!channel> & <http://evil|x>"
    failure = replace(CHECK, title=evil, detail=evil, figures={evil: evil}, owners=(evil,), link="http://d/?a=<|>")
    said = markdown(replace(ALERT, job=evil, failures=(failure,)), note=evil)
    assert "<!channel>" not in said
    assert len(re.findall("[<>]", said)) == 2 * said.count("*<http://")
    assert "<!channel>" not in slack_text(compose(replace(ALERT, job=evil, failures=(failure,))).text)


def test_more_failures_than_blocks_are_counted_not_dropped_silently() -> None:
    failures = tuple(replace(CHECK, kind=f"check:a:{i}", title=f"Check {i}") for i in range(200))
    message = compose(replace(ALERT, failures=failures, will_retry=True), "A note.")
    assert len(message.blocks) == MAX_BLOCKS
    said = markdown(replace(ALERT, failures=failures, will_retry=True), "A note.")
    shown = len(re.findall(r"\|Check \d+>", said))
    assert f"… and {200 - shown} more" in said
    assert said.endswith("Dagster retries this run by itself.\nA note.")
    assert "200 checks failed" in said


def test_cutting_is_said_and_leaves_links_and_entities_whole() -> None:
    failure = replace(CHECK, detail="&" * 5000, figures={f"f{i}": "x" * 500 for i in range(50)})
    section = compose(replace(ALERT, failures=(failure,))).blocks[2]["text"]["text"]
    assert len(section) == MAX_SECTION or "cut" in section
    assert "… and 38 more figures" in section
    assert section.startswith("*<http://dagster/assets/")
    assert len(slack_text("&" * 50_000)) <= MAX_TEXT


@given(st.text(alphabet="a&<>", max_size=400), st.integers(60, 200))
def test_clipped_text_keeps_the_limit_and_never_ends_within_an_entity(raw: str, limit: int) -> None:
    clipped = clip(escape(raw), limit)
    assert len(clipped) <= limit
    assert not re.search(r"&(?!amp;|lt;|gt;)", clipped)
    assert clipped == escape(raw) or "(cut: " in clipped


text = st.text(max_size=300) | st.just("<&>|" * 2000)


@given(
    st.lists(
        st.builds(
            Failure,
            kind=st.sampled_from(["check:a:b", "step:j:s", "run:j"]),
            title=text,
            link=st.just("http://dagster/runs/1"),
            detail=text,
            figures=st.dictionaries(text, st.none() | st.booleans() | st.integers() | st.floats() | text, max_size=30),
            owners=st.tuples(text),
        ),
        min_size=1,
        max_size=70,
    ),
    text,
)
def test_every_message_fits_slacks_limits(failures: list[Failure], job: str) -> None:
    message = compose(replace(ALERT, job=job, failures=tuple(failures)), job)
    assert len(message.blocks) <= MAX_BLOCKS
    for block in message.blocks:
        limit = MAX_HEADER if block["type"] == "header" else MAX_SECTION
        assert len(block["text"]["text"]) <= limit
    assert len(slack_text(message.text)) <= MAX_TEXT
