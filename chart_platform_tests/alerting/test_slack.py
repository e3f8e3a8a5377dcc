"""Delivery to a server that speaks Slack's API, and what becomes of alerts when it does not answer well."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from chart_platform.alerting import outbox as outbox_module
from chart_platform.alerting import slack as slack_module
from chart_platform.alerting.dispatch import OUTBOX_FILE, deliver_pending, report
from chart_platform.alerting.messages import Alert, Failure, Message, compose
from chart_platform.alerting.slack import (
    ATTEMPTS,
    Delivered,
    LogSender,
    Refused,
    TokenSender,
    Unavailable,
    WebhookSender,
    sender_for,
)
from chart_platform.settings import Settings
from chart_platform_tests.alerting.conftest import TOKEN, Slack, Trouble

ALERT = Alert(
    run_id="r1",
    root_run_id="r1",
    job="job",
    link="http://d/runs/r1",
    run_failed=True,
    failures=(Failure("step:job:s", "Step s", "http://d/runs/r1", detail="a < b", figures={"rows": 7}),),
)
MESSAGE: Message = compose(ALERT)
LOG = logging.getLogger("alert-tests")


class Waits(list[float]):
    """Stands for ``time.sleep``, and remembers."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture(params=["token", "webhook"])
def sender(request: pytest.FixtureRequest, slack: Slack, waits: Waits) -> TokenSender | WebhookSender:
    if request.param == "token":
        return TokenSender(TOKEN, slack.api_url, sleep=waits)
    return WebhookSender(slack.webhook_url, sleep=waits)


def test_a_message_arrives_once_with_text_and_blocks(sender: TokenSender | WebhookSender, slack: Slack) -> None:
    assert isinstance(sender.send(MESSAGE, "#alerts"), Delivered)
    (message,) = slack.messages
    assert message["blocks"] == MESSAGE.blocks
    assert "a &lt; b" in message["text"]
    assert message.get("channel") == ("#alerts" if isinstance(sender, TokenSender) else None)


def test_a_rate_limit_is_waited_for_as_long_as_slack_says(
    sender: TokenSender | WebhookSender, slack: Slack, waits: Waits
) -> None:
    slack.troubles = [Trouble(429, '{"ok": false, "error": "ratelimited"}', {"Retry-After": "3"})]
    assert isinstance(sender.send(MESSAGE, "#alerts"), Delivered)
    assert waits == [3.0]
    assert len(slack.messages) == 1


def test_a_long_rate_limit_is_left_to_a_later_try(
    sender: TokenSender | WebhookSender, slack: Slack, waits: Waits
) -> None:
    slack.troubles = [Trouble(429, '{"ok": false, "error": "ratelimited"}', {"Retry-After": "120"})]
    outcome = sender.send(MESSAGE, "#alerts")
    assert isinstance(outcome, Unavailable)
    assert outcome.retry_after == 120
    assert (waits, slack.requests) == ([], 1)


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(500, "<html>oops</html>"),
        Trouble(503, '{"ok": false, "error": "service_unavailable"}'),
        Trouble(0, hang_up=True),
    ],
    ids=["500", "503", "connection dropped"],
)
def test_a_passing_failure_is_tried_again_but_not_for_ever(
    sender: TokenSender | WebhookSender, slack: Slack, waits: Waits, trouble: Trouble
) -> None:
    slack.troubles = [trouble]
    assert isinstance(sender.send(MESSAGE, "#alerts"), Delivered)
    assert (len(waits), len(slack.messages)) == (1, 1)

    slack.requests, slack.troubles = 0, [trouble] * 10
    assert isinstance(sender.send(MESSAGE, "#alerts"), Unavailable)
    assert slack.requests == ATTEMPTS


def test_a_server_that_does_not_answer_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, slack: Slack, waits: Waits
) -> None:
    monkeypatch.setattr(slack_module, "TIMEOUT_SECONDS", 0.2)
    slack.troubles = [Trouble(200, "ok", delay=1.0)] * ATTEMPTS
    for sender in (TokenSender(TOKEN, slack.api_url, sleep=waits), WebhookSender(slack.webhook_url, sleep=waits)):
        slack.troubles = [Trouble(200, "ok", delay=1.0)] * ATTEMPTS
        outcome = sender.send(MESSAGE, "#alerts")
        assert isinstance(outcome, Unavailable)
        assert "timed out" in outcome.reason
    assert slack.messages == []


def test_no_server_at_all_is_an_outcome_and_not_an_exception(waits: Waits) -> None:
    for sender in (
        TokenSender(TOKEN, "http://127.0.0.1:9/api/", sleep=waits),
        WebhookSender("http://127.0.0.1:9/services/x", sleep=waits),
        WebhookSender("not a url", sleep=waits),
        TokenSender(TOKEN, "not a url", sleep=waits),
        TokenSender("line\nbreak", "http://127.0.0.1:9/api/", sleep=waits),
    ):
        assert isinstance(sender.send(MESSAGE, "#alerts"), Unavailable)


def test_a_wrong_token_is_not_tried_twice(slack: Slack, waits: Waits) -> None:
    outcome = TokenSender("xoxb-wrong", slack.api_url, sleep=waits).send(MESSAGE, "#alerts")
    assert outcome == Unavailable("HTTP 200: invalid_auth")
    assert slack.requests == 1


def test_a_message_that_slack_can_never_take_is_refused(sender: TokenSender | WebhookSender, slack: Slack) -> None:
    body = "invalid_blocks" if isinstance(sender, WebhookSender) else '{"ok": false, "error": "invalid_blocks"}'
    slack.troubles = [Trouble(400 if isinstance(sender, WebhookSender) else 200, body)]
    assert isinstance(sender.send(MESSAGE, "#alerts"), Refused)


def test_a_token_goes_before_a_webhook_and_the_log_is_the_last_resort(slack: Slack) -> None:
    token, webhook = SecretStr(TOKEN), SecretStr(slack.webhook_url)
    assert isinstance(sender_for(Settings(slack_token=token, slack_webhook_url=webhook), LOG), TokenSender)
    assert isinstance(sender_for(Settings(slack_webhook_url=webhook), LOG), WebhookSender)
    assert isinstance(sender_for(Settings(), LOG), LogSender)


# -- Dispatch ----------------------------------------------------------------------------------------------------------


def configured(tmp_path: Path, slack: Slack, token: str = TOKEN) -> Settings:
    return Settings(home=tmp_path, slack_token=SecretStr(token), slack_api_url=slack.api_url)


def test_without_slack_the_same_text_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(home=tmp_path)
    assert report(ALERT, settings, LOG) == "Alert sent to the log."
    assert MESSAGE.text in caplog.text
    caplog.clear()
    assert "told before" in report(ALERT, settings, LOG)
    assert MESSAGE.text not in caplog.text


def test_an_alert_that_slack_did_not_take_is_logged_and_delivered_later(
    tmp_path: Path, slack: Slack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "FIRST_WAIT", timedelta())
    said = report(ALERT, configured(tmp_path, slack, token="xoxb-wrong"), LOG)
    assert "did not take the alert (HTTP 200: invalid_auth); it will be tried again" in said
    assert MESSAGE.text in caplog.text
    assert slack.messages == []

    assert deliver_pending(configured(tmp_path, slack), LOG) == "Alert sent to #chart-platform."
    assert deliver_pending(configured(tmp_path, slack), LOG) == "Nothing to deliver now."
    assert [json.loads(json.dumps(message["blocks"])) for message in slack.messages] == [MESSAGE.blocks]


def test_a_home_that_cannot_be_written_costs_the_memory_and_not_the_alert(
    tmp_path: Path, slack: Slack, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / OUTBOX_FILE).mkdir()
    assert report(ALERT, configured(tmp_path, slack), LOG) == "Alert sent to #chart-platform."
    assert len(slack.messages) == 1
    assert "alerts may repeat" in caplog.text
    assert "cannot be used" in deliver_pending(configured(tmp_path, slack), LOG)


@pytest.mark.parametrize("kind", ["token", "webhook"])
def test_no_secret_reaches_a_log(
    kind: str, tmp_path: Path, slack: Slack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slack_module, "ATTEMPTS", 1)
    caplog.set_level(logging.DEBUG)
    echo = TOKEN if kind == "token" else f"{slack.webhook_url} or /services/T0/B0/secret"
    troubles = [
        Trouble(500, echo),
        Trouble(500, json.dumps({"ok": False, "error": echo})),
        Trouble(0, hang_up=True),
    ]
    for number, trouble in enumerate(troubles):
        settings = Settings(
            home=tmp_path / str(number),
            slack_token=SecretStr(TOKEN) if kind == "token" else None,
            slack_webhook_url=SecretStr(slack.webhook_url),
            slack_api_url=slack.api_url,
        )
        slack.troubles = [trouble]
        assert "did not take the alert" in report(ALERT, settings, LOG)
    assert caplog.text.count("did not take the alert") == len(troubles)
    assert TOKEN not in caplog.text
    assert "/services/" not in caplog.text
