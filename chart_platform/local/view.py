"""What `up` shows: progress of the parts, where to look, and a line of figures.

Belongs here: words and their place on the screen. Does not belong here: any decision.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.status import Status
from rich.text import Text

from chart_platform.local.child import Child
from chart_platform.local.figures import Figures
from chart_platform.local.parts import demo_url
from chart_platform.settings import Settings

_PLAIN_LINE_EVERY_SECONDS = 15.0


class View:
    """One line that changes at the bottom of a terminal, lines that stay above it; plain lines in a pipe or a log.

    Never raises for a console that is gone: with the terminal closed, there are still processes to be stopped.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._line_due = 0.0
        self._gone = False

    def say(self, text: str, style: str = "") -> None:
        if self._gone:
            return
        try:
            # Text, so that brackets in a path or a log line are not taken for markup.
            self._console.print(Text(self._writable(text), style=style), soft_wrap=True)
        except (OSError, ValueError):
            self._gone = True

    def show(self, text: str, *, repeat: bool = False) -> None:
        """The line that changes. Where lines can't change, it is only printed with ``repeat``, and not too often."""
        if self._gone:
            return
        text = self._writable(text)
        try:
            if not self._console.is_terminal:
                if repeat and time.monotonic() >= self._line_due:
                    self._line_due = time.monotonic() + _PLAIN_LINE_EVERY_SECONDS
                    self._console.print(Text(text), soft_wrap=True)
            elif self._status is None:
                self._status = self._console.status(Text(text))
                self._status.start()
            else:
                self._status.update(Text(text))
        except (OSError, ValueError):
            self._gone = True

    def _writable(self, text: str) -> str:
        """A console that knows only ASCII gets question marks instead of an error."""
        return text.encode(self._console.encoding, "replace").decode(self._console.encoding)

    def close(self) -> None:
        try:
            if self._status is not None:
                self._status.stop()
        except (OSError, ValueError):
            self._gone = True
        self._status = None


def where_to_look(settings: Settings) -> list[str]:
    """What to open and try first."""
    url = settings.dagster_base_url
    today = datetime.now(UTC).date().isoformat()
    places = {
        "Comparison page": demo_url(settings),
        "Collector of its events": f"{settings.edge_base_url}/metrics",
        "Asset graph, Kafka to gold": f"{url}/asset-groups",
        "A day of gold, partition by partition": f"{url}/assets/gold/fact_funnel?view=partitions&partition={today}",
        "Every offset accounted for (checks)": f"{url}/assets/bronze/events?view=checks",
        "Column lineage and contract": f"{url}/assets/gold/fact_funnel?view=overview",
        "Runs and what started them": f"{url}/runs",
    }
    width = max(map(len, places))
    return [
        f"Running in {settings.root}",
        *(f"  {name:<{width}}  {place}" for name, place in places.items()),
        "Ask the tables in another terminal:",
        "  chart-platform sql \"select * from gold.funnel_daily where cut = 'ab_variant' order by event_dt desc\"",
        '  chart-platform sql "select event_type, count(*) from silver.events group by 1"',
        "Ctrl-C stops everything; the next `up` goes on from here.",
    ]


def progress_line(children: Iterable[Child]) -> str:
    """Who is not up yet, for how long, and what it said last."""
    words = []
    for child in children:
        if child.state == "starting":
            said = child.last_lines(1)
            words.append(f"{child.part.name} {child.lived():.0f} s" + (f" ({said[0][:50]})" if said else ""))
    return "Starting " + " · ".join(words) if words else "Starting"


def figures_line(figures: Figures, troubled: Iterable[Child]) -> str:
    words = []
    if figures.sent is not None:
        words.append(f"{figures.sent:,} events sent")
    words.append(f"{sum(figures.lag.values()):,} unread" if figures.lag is not None else "unread: not known")
    if figures.gold_at is not None:
        age = (datetime.now(UTC) - figures.gold_at).total_seconds()
        words.append(f"last commit to gold {max(0.0, age):.0f} s ago")
    else:
        words.append("nothing in gold yet")
    words += [f"{child.part.name} {child.state}" for child in troubled]
    return " · ".join(words)
