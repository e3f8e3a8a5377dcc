"""A lake with clicks put straight into the click fact, and a drop folder: what conversions meet, without a pipeline.

Belongs here: making that world and reading it back. Does not belong here: what should come of it.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from chart_platform.contracts.tables import FACT_AFFILIATE_CLICKS, FACT_CONVERSIONS, Table
from chart_platform.conversions.gold import update_facts, update_reconciliation
from chart_platform.conversions.intake import IntakeResult, take_in
from chart_platform.lakehouse.changes import Made
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Change, Lake
from chart_platform.quality.schemas import audit
from chart_platform.settings import Settings

DAY = date(2026, 11, 2)
NOON = datetime(2026, 11, 2, 12)
PRODUCTS = {"sitesmith-premium-top": "sitesmith", "tilekit-basic-top": "tilekit"}

# The simplest mapping there is: our own names, ISO times in UTC.
PLAIN = """
networks:
  - name: plain
    columns:
      transaction_id: id
      click_id: click
      status: status
      event_time: at
      updated_time: updated
      sale_amount: sale
      commission: commission
      currency: currency
    statuses: {pending: [pending], approved: [approved], paid: [paid], reversed: [reversed]}
    postback:
      columns: {transaction_id: tx, click_id: sub, status: state, event_time: received_at, commission: amount,
                currency: {value: USD}}
  - name: other
    columns: {transaction_id: id, click_id: click, status: status, event_time: at, commission: commission,
              currency: {value: EUR}}
    statuses: {approved: [ok], reversed: [declined]}
"""


def report(transaction: str, **given: Any) -> dict[str, Any]:
    """A record under the mapping ``plain``; NDJSON keeps numbers exact as text."""
    made = {"id": transaction, "click": None, "status": "approved", "at": NOON.isoformat(), "updated": None,
            "sale": "100.00", "commission": "92.00", "currency": "USD"}  # fmt: skip
    return made | given


class World:
    """One lake and its drop folder. ``now`` moves an hour with each intake."""

    def __init__(self, root: Path, networks: str | None = PLAIN, **settings: Any) -> None:
        root.mkdir(parents=True, exist_ok=True)
        if networks is not None:
            (root / "networks.yml").write_text(networks)
            settings["conversions_networks"] = root / "networks.yml"
        self.settings = Settings(home=root, **settings)
        self.lake = Lake(self.settings)
        self.folder = Path(self.settings.conversions_drop_url)
        self.now = NOON + timedelta(days=1)
        self._numbers = itertools.count(1)

    def drop(self, name: str, content: bytes | str | list[Mapping[str, Any]]) -> Path:
        """Put a file into the drop folder, as old as it is late: files dropped later are newer."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(line, default=str) + "\n" for line in content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        written = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=next(self._numbers))
        os.utime(path, (written.timestamp(), written.timestamp()))
        return path

    def take(self) -> IntakeResult:
        self.now += timedelta(hours=1)
        return take_in(self.lake, audit, self.now)

    def update(self, days: list[date] | None = None) -> Made:
        """Carry bronze to gold."""
        made = update_facts(self.lake, audit, PRODUCTS, days)
        update_reconciliation(self.lake, audit, PRODUCTS, days)
        return made

    def click(self, click_id: str | None, **given: Any) -> dict[str, Any]:
        """A click of the link registry's first link at 11:00, put into the click fact."""
        (row,) = self.clicks([{"click_id": click_id, **given}])
        return row

    def clicks(self, given: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Clicks that differ from the usual one, put into the click fact at once."""
        usual = dict.fromkeys(FACT_AFFILIATE_CLICKS.arrow.names) | {
            "ts": NOON - timedelta(hours=1), "session_id": "visit", "affiliate_link_id": "sitesmith-premium-top",
            "payout_cents": 9200, "affiliate_network": "plain", "affiliate_context": "signed", "ab_variant": "b",
        }  # fmt: skip
        made = [usual | {"event_id": f"click-{next(self._numbers)}"} | one for one in given]
        for row in made:
            row["event_dt"] = row["ts"].date()
        rows = pa.Table.from_pylist(made, schema=FACT_AFFILIATE_CLICKS.arrow)
        self.lake.commit(FACT_AFFILIATE_CLICKS, lambda current: Change(add=self.lake.write(current, rows)))
        return made

    def rows(self, table: Table) -> list[dict[str, Any]]:
        connection = connect(self.settings)
        current = self.lake.load(table)
        order = ", ".join([*table.sort_by, *table.key])
        source = relation(current, table, self.lake.files(current))
        found: list[dict[str, Any]] = connection.sql(f"from {source} order by {order}").to_arrow_table().to_pylist()
        connection.close()
        return found

    def fact(self, transaction: str) -> dict[str, Any]:
        (row,) = [row for row in self.rows(FACT_CONVERSIONS) if row["transaction_id"] == transaction]
        return row
