"""The attribution loses no money: every conversion is divided once, and in every model to the cent.

Belongs here: comparing gold.fact_attribution with what it divides. Does not belong here: what a failed comparison does
(``defs``), or whether the division is a fair one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from pyiceberg.expressions import In

from chart_platform.contracts.tables import (
    ATTRIBUTION_MODELS,
    FACT_AFFILIATE_CLICKS,
    FACT_ATTRIBUTION,
    FACT_CONVERSIONS,
)
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake


@dataclass(frozen=True)
class Divided:
    """Conversions and cents of one day and kind, by their own table and by the attribution; ``uneven`` conversions are
    those that some model divides into more or less than their amount, or than one conversion."""

    day: date
    kind: str
    conversions: int
    divided: int
    amount_cents: int
    divided_cents: int
    uneven: int

    @property
    def ok(self) -> bool:
        return (self.conversions, self.amount_cents, 0) == (self.divided, self.divided_cents, self.uneven)


def balance_attribution(lake: Lake, days: Iterable[date]) -> list[Divided]:
    """What gold.fact_attribution holds of each of the ``days`` and kinds beside what it should divide."""
    some = sorted(days)
    if not some:
        return []
    clicks, reports, facts = (lake.load(t) for t in (FACT_AFFILIATE_CLICKS, FACT_CONVERSIONS, FACT_ATTRIBUTION))
    listed = ", ".join(f"date '{day}'" for day in some)
    uneven = " or ".join(
        f"sum({model}_cents) <> any_value(amount_cents) or sum({model}_share) <> 1000000"
        for model in ATTRIBUTION_MODELS
    )
    connection = connect(lake.settings)
    found = connection.sql(
        f"""
        with due as (
            select event_dt, 'click' as kind, count(*) as n, sum(coalesce(payout_cents, 0)) as cents
            from {relation(clicks, FACT_AFFILIATE_CLICKS, lake.files(clicks, In("event_dt", some)))} group by all
            union all
            select click_dt as event_dt, 'report' as kind, count(*) as n, sum(due_cents) as cents
            from {relation(reports, FACT_CONVERSIONS, lake.files(reports))}
            where match = 'matched' and click_dt in ({listed}) group by all
        ),

        conversions as (
            select event_dt, kind, any_value(amount_cents) as cents, {uneven} as is_uneven
            from {relation(facts, FACT_ATTRIBUTION, lake.files(facts, In("event_dt", some)))}
            group by event_dt, kind, conversion_id
        ),

        divided as (
            select event_dt, kind, count(*) as n, sum(cents) as cents, count(*) filter (where is_uneven) as uneven
            from conversions group by all
        )

        select
            event_dt, kind, coalesce(due.n, 0), coalesce(divided.n, 0), cast(coalesce(due.cents, 0) as bigint),
            cast(coalesce(divided.cents, 0) as bigint), coalesce(divided.uneven, 0)
        from due full join divided using (event_dt, kind)
        order by event_dt, kind
        """
    ).fetchall()
    connection.close()
    return [Divided(*row) for row in found]
