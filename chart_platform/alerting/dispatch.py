"""From an alert to the people: admission, delivery, and the words about both in the log.

Belongs here: the order of the steps and what is logged at each. A caller is never failed by it.
Does not belong here: any of the steps (``routing``, ``outbox``, ``slack``).
"""

from __future__ import annotations

import logging
import sqlite3
from datetime import UTC, datetime

from chart_platform.alerting.messages import Alert, compose, headline
from chart_platform.alerting.outbox import Outbox
from chart_platform.alerting.routing import Silence, channel_for, owner_channels
from chart_platform.alerting.slack import Delivered, Outcome, sender_for
from chart_platform.settings import Settings

OUTBOX_FILE = "alerts.db"


def report(alert: Alert, settings: Settings, log: logging.Logger) -> str:
    """Tell of the alert unless it is old news; what was done, in words."""
    channel = channel_for(alert.owners, owner_channels(), settings.slack_channel)
    try:
        decision = Outbox(settings.root / OUTBOX_FILE).admit(alert, channel, datetime.now(UTC))
    except (sqlite3.Error, OSError) as error:
        # Without its memory alerting repeats itself, which is better than silence.
        log.warning("%s cannot be used (%s): alerts may repeat.", settings.root / OUTBOX_FILE, error)
        message = compose(alert)
        outcome = sender_for(settings, log).send(message, channel)
        return _tell(outcome, message.text, log, first=True, again=False)
    if isinstance(decision, Silence):
        said = f"Not sent, {decision.reason}: {headline(alert)}, {alert.link}"
        log.info("%s", said)
        return said
    return deliver_pending(settings, log)


def deliver_pending(settings: Settings, log: logging.Logger) -> str:
    """Send what waits, oldest first, until all is sent or Slack fails; what was done, in words."""
    outbox, sender = Outbox(settings.root / OUTBOX_FILE), sender_for(settings, log)
    done = []
    try:
        while pending := outbox.claim(datetime.now(UTC)):
            outcome = sender.send(pending.message, pending.channel)
            again = outbox.settle(pending, outcome, datetime.now(UTC))
            done.append(_tell(outcome, pending.message.text, log, first=pending.attempts == 1, again=again))
            if not isinstance(outcome, Delivered):
                break
    except (sqlite3.Error, OSError) as error:
        done.append(f"{settings.root / OUTBOX_FILE} cannot be used: {error}")
        log.warning("%s", done[-1])
    return " ".join(done) or "Nothing to deliver now."


def _tell(outcome: Outcome, text: str, log: logging.Logger, *, first: bool, again: bool) -> str:
    if isinstance(outcome, Delivered):
        said = f"Alert sent to {outcome.where}."
        log.info("%s", said)
        return said
    said = (
        f"Slack did not take the alert ({outcome.reason}); {'it will be tried again' if again else 'it is given up'}."
    )
    # The text stands in the log once; repeating it with every try would be a storm of another kind.
    log.error("%s%s", said, f" It says:\n{text}" if first or not again else "")
    return said
