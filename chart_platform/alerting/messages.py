"""What an alert says: the failures of one run, as plain text and as Slack blocks.

Belongs here: wording, layout, escaping and Slack's limits on size; all pure.
Does not belong here: where failures come from (``runs``), who is told and when (``routing``), and sending (``slack``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

# Slack's own limits, in characters; a message beyond them is refused as a whole.
MAX_HEADER = 150
MAX_SECTION = 3000
MAX_BLOCKS = 50
MAX_TEXT = 40_000
# What is ours to choose, so that one talkative check leaves room for the others.
MAX_FIGURES = 12
MAX_FIGURE = 100
MAX_TITLE = 200

UNOWNED = "unowned"

Severity = Literal["WARN", "ERROR"]
Figure = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that failed in a run: a check or a step, or the run itself before it had any."""

    kind: str
    """What failed, whatever the partition: failures of one kind count against one budget of messages."""
    title: str
    link: str
    severity: Severity = "ERROR"
    partition: str | None = None
    detail: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    owners: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The identity for deduplication: the same check on the same partition is the same failure, in whatever run."""
        return f"{self.kind}@{self.partition or ''}"


@dataclass(frozen=True, slots=True)
class Alert:
    """All that failed in one run: it is told in one message."""

    run_id: str
    root_run_id: str
    """The first run of a chain of retries, or the run itself."""
    job: str
    link: str
    run_failed: bool
    failures: tuple[Failure, ...]
    partition: str | None = None
    will_retry: bool = False

    @property
    def severity(self) -> Severity:
        return "ERROR" if self.run_failed or any(f.severity == "ERROR" for f in self.failures) else "WARN"

    @property
    def owners(self) -> tuple[str, ...]:
        return tuple(sorted({owner for failure in self.failures for owner in failure.owners}))


@dataclass(frozen=True, slots=True)
class Message:
    """A message ready to be sent: ``text`` for people and logs, ``blocks`` for Slack."""

    text: str
    blocks: list[dict[str, Any]]


def compose(alert: Alert, note: str = "") -> Message:
    """The one message of a run. ``note`` is said at its end: what was or will be left unsaid."""
    notes = [*(["Dagster retries this run by itself."] if alert.will_retry else []), *([note] if note else [])]
    text = "\n".join(
        [headline(alert), _facts(alert), *map(_failure_text, alert.failures), *notes, f"Run: {alert.link}"]
    )
    blocks = [_header(headline(alert)), _section(_run_line(alert))]
    closing = [_section(escape(line)) for line in notes]
    room = MAX_BLOCKS - len(blocks) - len(closing)
    shown = alert.failures if len(alert.failures) <= room else alert.failures[: room - 1]
    blocks += [_section(_failure_markdown(failure)) for failure in shown]
    if unshown := len(alert.failures) - len(shown):
        blocks.append(
            _section(f"… and {unshown} more that one message has no room for: {_anchor(alert.link, 'the run')}")
        )
    return Message(text, blocks + closing)


def headline(alert: Alert) -> str:
    counted = Counter(failure.kind.split(":", 1)[0] for failure in alert.failures)
    parts = [f"{count} {noun}{'s' if count > 1 else ''} failed" for noun, count in counted.items() if noun != "run"]
    verdict = ["Run failed"] if alert.run_failed else []
    return f"[{alert.severity}] {': '.join([*verdict, *([', '.join(parts)] if parts else [])])} in {alert.job}"


def slack_text(text: str) -> str:
    """Text as Slack takes it: its three control characters escaped, its length limited."""
    return clip(escape(text), MAX_TEXT)


def escape(text: str) -> str:
    """Without this, ``<!channel>`` in the data would call everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clip(text: str, limit: int) -> str:
    """``text`` in at most ``limit`` characters, saying so when some are gone; never half an escaped character."""
    if len(text) <= limit:
        return text
    marker = f" … (cut: {len(text)} characters in all)"
    return re.sub(r"&[a-z]*$", "", text[: limit - len(marker)]) + marker


def figure_text(value: Figure) -> str:
    match value:
        case bool() | None:
            return str(value).lower()
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.6g}"
        case str():
            return clip(value, MAX_FIGURE)


def _figure_lines(figures: Mapping[str, Figure]) -> list[str]:
    lines = [f"{clip(name, MAX_TITLE)}: {figure_text(value)}" for name, value in list(figures.items())[:MAX_FIGURES]]
    more = len(figures) - len(lines)
    return [*lines, f"… and {more} more figures"] if more else lines


def _owners_text(owners: Sequence[str]) -> str:
    return f"Owner: {', '.join(owners) or UNOWNED}"


def _facts(alert: Alert) -> str:
    return ", ".join([f"Job {alert.job}", *([f"partition {alert.partition}"] if alert.partition else [])])


def _about(failure: Failure, alert_line: str) -> str:
    return ", ".join([alert_line, failure.severity, *([f"partition {failure.partition}"] if failure.partition else [])])


def _failure_text(failure: Failure) -> str:
    lines = [failure.detail] if failure.detail else []
    lines += [*_figure_lines(failure.figures), _owners_text(failure.owners), failure.link]
    return "\n".join([_about(failure, f"- {clip(failure.title, MAX_TITLE)} failed"), *(f"  {line}" for line in lines)])


def _failure_markdown(failure: Failure) -> str:
    # The link comes first and the free text last: cutting at the limit then breaks neither link nor owner.
    lines = [_about(failure, f"{_anchor(failure.link, failure.title)} failed"), escape(_owners_text(failure.owners))]
    lines += [f"• {escape(line)}" for line in _figure_lines(failure.figures)]
    return "\n".join([*lines, *([escape(failure.detail)] if failure.detail else [])])


def _run_line(alert: Alert) -> str:
    return f"{escape(_facts(alert))}, {_anchor(alert.link, f'run {alert.run_id[:8]}')}"


def _anchor(link: str, title: str) -> str:
    return f"*<{escape(link.replace('|', '%7C'))}|{escape(clip(title, MAX_TITLE).replace('|', '/'))}>*"


def _header(text: str) -> dict[str, Any]:
    return {"type": "header", "text": {"type": "plain_text", "text": clip(escape(text), MAX_HEADER)}}


def _section(markdown: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": clip(markdown, MAX_SECTION)}}
