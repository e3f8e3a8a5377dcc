"""The attribution as assets of the job of the marts, with the check that no cent is lost."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import FACT_ATTRIBUTION, Table, table
from chart_platform.defs.dbt_specs import model_specs
from chart_platform.defs.marts import GROUP
from chart_platform.defs.metadata import key_of
from chart_platform.defs.modes import RANGES, days_of, is_incremental
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.defs.results import contract_specs, told
from chart_platform.quality.attribution import balance_attribution
from chart_platform.quality.schemas import ContractBreach, audit
from chart_platform.transform import attribution as following
from chart_platform.transform.dbt import DbtFailed

_SPECS = model_specs(following.MADE, GROUP)
_TABLES: dict[dg.AssetKey, Table] = {s.key: table(".".join(s.key.path)) for s in _SPECS}
_FACT = key_of(FACT_ATTRIBUTION)


@dg.multi_asset(
    name="attribution",
    specs=_SPECS,
    check_specs=[
        *contract_specs(_TABLES.values()),
        dg.AssetCheckSpec(
            "credits",
            asset=_FACT,
            description="Every click and matched conversion of the touched days is divided, and in every model its parts "
            "sum to its amount, to the cent.",
        ),
    ],
    partitions_def=daily,
    # As in gold.py, not for the sake of subsets: all four are made whatever is selected.
    can_subset=True,
    backfill_policy=RANGES,
)
def attribution(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    days = days_of(context)
    try:
        results = following.run(lake, audit, None if is_incremental(context) else days)
    except (DbtFailed, ContractBreach) as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    checked = {(check.asset_key, check.name) for check in context.selected_asset_check_keys}
    for key, declared in _TABLES.items():
        if key not in context.selected_asset_keys:
            continue
        yield from told(context, lake, declared, results.get(declared.full_name))
    if (_FACT, "credits") not in checked:
        return
    fact = results.get(FACT_ATTRIBUTION.full_name)
    balances = balance_attribution(lake, {*days, *(fact.days if fact else ())})
    yield dg.AssetCheckResult(
        asset_key=_FACT,
        check_name="credits",
        passed=all(b.ok for b in balances),
        metadata={
            "days": len({b.day for b in balances}),
            "conversions": sum(b.conversions for b in balances),
            "divided": sum(b.divided for b in balances),
            "amount_cents": sum(b.amount_cents for b in balances),
            "divided_cents": sum(b.divided_cents for b in balances),
            "uneven_conversions": sum(b.uneven for b in balances),
            "different_days": ", ".join(sorted({str(b.day) for b in balances if not b.ok})) or "none",
        },
    )
