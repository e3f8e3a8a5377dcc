"""Experiments hold together: every visitor who was exposed is in the sums once, or was taken out of them once.

Belongs here: comparing gold.experiment_exposures with gold.experiment_sums. Does not belong here: whether visitors came in
the expected ratio (``experiments.statistics``), or what a failed comparison does (``defs``).
"""

from __future__ import annotations

from dataclasses import dataclass

from chart_platform.contracts.tables import EXPERIMENT_EXPOSURES, EXPERIMENT_SUMS, Table
from chart_platform.lakehouse.duck import connect, relation
from chart_platform.lakehouse.lake import Lake


@dataclass(frozen=True)
class Accounted:
    """Visitors of one experiment and variant who count, and crossovers, by the exposures and by the sums of each metric:
    ``least`` and ``most`` are of the metrics that have the fewest and the most visitors."""

    experiment_key: str
    variant: str
    visitors: int
    least: int
    most: int
    crossovers: int
    crossovers_in_sums: int

    @property
    def ok(self) -> bool:
        return self.visitors == self.least == self.most and self.crossovers == self.crossovers_in_sums


def account_for_visitors(lake: Lake) -> list[Accounted]:
    """Of every experiment and variant, whether exposures and sums know the same visitors."""
    connection = connect(lake.settings)
    found = connection.sql(
        f"""
        with exposures as (
            select
                experiment_key, variant, count(*) filter (where crossover_ts is null) as visitors, count(crossover_ts) as crossovers
            from {_rows(lake, EXPERIMENT_EXPOSURES)} group by all
        ),
        metrics as (
            select experiment_key, variant, metric, sum(visitors) as visitors, sum(crossovers) as crossovers
            from {_rows(lake, EXPERIMENT_SUMS)} group by all
        ),
        sums as (
            select experiment_key, variant, min(visitors) as least, max(visitors) as most, max(crossovers) as crossovers
            from metrics group by all
        )
        select
            experiment_key, variant, coalesce(e.visitors, 0), cast(coalesce(s.least, 0) as bigint),
            cast(coalesce(s.most, 0) as bigint), coalesce(e.crossovers, 0), cast(coalesce(s.crossovers, 0) as bigint)
        from exposures as e full join sums as s using (experiment_key, variant)
        order by experiment_key, variant
        """
    ).fetchall()
    connection.close()
    return [Accounted(*row) for row in found]


def _rows(lake: Lake, table: Table) -> str:
    current = lake.load(table)
    return relation(current, table, lake.files(current))
