"""Getting a message to Slack, by token or webhook, or to the log when there is neither.

Belongs here: clients, bounded retries, and what Slack's answers mean.
Does not belong here: what is said (``messages``), and what becomes of a message that did not get through (``outbox``).
"""

from __future__ import annotations

import http.client
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient

from chart_platform.alerting.messages import Message, slack_text
from chart_platform.settings import Settings

# A sensor's evaluation may take 60 s. Three tries of 5 s and two waits of at most 8 s leave it time for the rest.
ATTEMPTS = 3
TIMEOUT_SECONDS = 5
LONGEST_WAIT_SECONDS = 8.0

# Answers that blame the message: it will never be taken. All others may be put right by waiting or by an operator.
_REFUSALS = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "invalid_payload", "msg_blocks_too_long", "msg_too_long", "no_text"}
)
_PASSING = frozenset(
    {"accesslimited", "fatal_error", "internal_error", "ratelimited", "request_timeout", "service_unavailable"}
)

# The SDK writes webhook URLs, which are secrets, into its debug log, and errors that are told here anyway.
_silent = logging.getLogger(f"{__name__}.sdk")
_silent.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Delivered:
    where: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Slack will never take this message."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """It did not get through and may later, not before ``retry_after`` seconds if Slack named them."""

    reason: str
    retry_after: float = 0.0


Outcome = Delivered | Refused | Unavailable


class Sender(Protocol):
    def send(self, message: Message, channel: str) -> Outcome:
        """Try to deliver; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    error: str
    headers: Mapping[str, str]


def sender_for(settings: Settings, log: logging.Logger) -> Sender:
    """By token if there is one, as only that can choose the channel; else by webhook; else to the log."""
    if settings.slack_token is not None:
        return TokenSender(settings.slack_token.get_secret_value(), settings.slack_api_url)
    if settings.slack_webhook_url is not None:
        return WebhookSender(settings.slack_webhook_url.get_secret_value())
    return LogSender(log)


class LogSender:
    """What happens to alerts without Slack: the same text, in the log."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def send(self, message: Message, channel: str) -> Outcome:
        self._log.error("%s\n(Slack is not configured; with it, this would have gone to %s.)", message.text, channel)
        return Delivered("the log")


class TokenSender:
    """Sends with a bot token, by ``chat.postMessage``."""

    def __init__(self, token: str, api_url: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._token = token.strip()
        self._client = WebClient(
            self._token, base_url=api_url, timeout=TIMEOUT_SECONDS, logger=_silent, retry_handlers=[]
        )
        self._sleep = sleep

    def send(self, message: Message, channel: str) -> Outcome:
        def post() -> _Answer:
            try:
                response = self._client.chat_postMessage(
                    channel=channel,
                    text=slack_text(message.text),
                    blocks=message.blocks,
                    unfurl_links=False,
                    unfurl_media=False,
                )
            except SlackApiError as error:
                response = error.response
                if isinstance(response, str):
                    return _Answer(0, response, {})
                data = response.data if isinstance(response.data, dict) else {}
                return _Answer(response.status_code, str(data.get("error", "no reason given")), response.headers)
            return _Answer(response.status_code, "", response.headers)

        return _with_retries(post, channel, secrets=(self._token,), sleep=self._sleep)


class WebhookSender:
    """Sends to an incoming webhook, which has a channel of its own."""

    def __init__(self, url: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._url = url.strip()
        self._client = WebhookClient(self._url, timeout=TIMEOUT_SECONDS, logger=_silent, retry_handlers=[])
        self._sleep = sleep

    def send(self, message: Message, channel: str) -> Outcome:  # noqa: ARG002
        def post() -> _Answer:
            response = self._client.send(text=slack_text(message.text), blocks=message.blocks, unfurl_links=False)
            return _Answer(response.status_code, "" if response.status_code == 200 else response.body, response.headers)

        return _with_retries(post, "the webhook", secrets=(self._url, urlsplit(self._url).path), sleep=self._sleep)


def _with_retries(
    post: Callable[[], _Answer], where: str, *, secrets: tuple[str, ...], sleep: Callable[[float], None]
) -> Outcome:
    outcome: Outcome = Unavailable("not tried")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = post()
        except (OSError, http.client.HTTPException) as error:
            # A timeout may hide a delivery, and trying again may double it: better twice than never.
            outcome, wait = Unavailable(_safe(f"{type(error).__name__}: {error}", secrets)), 0.5 * 2**attempt
        except Exception as error:
            # Whatever the SDK makes of an odd URL or token: alerts must not break what they watch.
            return Unavailable(_safe(f"{type(error).__name__}: {error}", secrets))
        else:
            if answer.status == 200 and not answer.error:
                return Delivered(where)
            reason = _safe(f"HTTP {answer.status}: {answer.error}", secrets)
            if answer.error in _REFUSALS:
                return Refused(reason)
            if answer.status == 429:
                wait = _retry_after(answer.headers)
                outcome = Unavailable(reason, retry_after=wait)
            elif answer.status >= 500 or answer.error in _PASSING:
                outcome, wait = Unavailable(reason), 0.5 * 2**attempt
            else:
                return Unavailable(reason)
        if wait > LONGEST_WAIT_SECONDS or attempt == ATTEMPTS:
            break
        sleep(wait)
    return outcome


def _retry_after(headers: Mapping[str, str]) -> float:
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    # Slack sends seconds; a proxy may send a date, which is not worth a parser here.
    return float(value) if value.isdigit() else 1.0


def _safe(reason: str, secrets: tuple[str, ...]) -> str:
    """A reason fit for a log: servers and proxies echo what they were asked."""
    for secret in secrets:
        if len(secret) > 1:  # the path of a URL may be no more than a slash
            reason = reason.replace(secret, "***")
    return reason[:300]
