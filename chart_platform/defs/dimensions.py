"""The link registry's history and the dimensions as assets of the job of the marts."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from chart_platform.contracts.tables import (
    AFFILIATE_PERFORMANCE_DAILY,
    CAMPAIGN_DAILY,
    DIM_AFFILIATE_LINK,
    DIM_CAMPAIGN,
    DIM_DATE,
    DIM_PRODUCT,
    FACT_CONVERSIONS,
    LINK_CHANGES,
    SILVER_SESSIONS,
)
from chart_platform.defs.marts import GROUP
from chart_platform.defs.metadata import key_of, spec, table_metadata
from chart_platform.defs.modes import RANGES
from chart_platform.defs.partitions import daily
from chart_platform.defs.resources import Platform
from chart_platform.edge.links import Links, LinksError
from chart_platform.quality.schemas import ContractBreach, audit
from chart_platform.transform.dimensions import DIMENSIONS, RegisteredLink, note_links, update_dimensions

_DEPS = {
    DIM_AFFILIATE_LINK: (LINK_CHANGES, AFFILIATE_PERFORMANCE_DAILY),
    DIM_PRODUCT: (DIM_AFFILIATE_LINK,),
    DIM_CAMPAIGN: (CAMPAIGN_DAILY,),
    DIM_DATE: (SILVER_SESSIONS, FACT_CONVERSIONS),
}


@dg.multi_asset(
    name="link_registry",
    specs=[spec(LINK_CHANGES, deps=[], kinds={"iceberg", "python"}, group=GROUP)],
    check_specs=[
        dg.AssetCheckSpec(
            "readable",
            asset=key_of(LINK_CHANGES),
            description="The link registry (CHART_EDGE_LINKS) can be read. If not, marts go on with the links as last seen.",
        )
    ],
    partitions_def=daily,
    backfill_policy=RANGES,
)
def link_registry(platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    problem: str | None = None
    changed = 0
    try:
        links = [
            RegisteredLink(link.link_id, link.product_id, link.network, link.target, link.payout_cents, link.position)
            for link in Links.load(platform.settings.edge_links)
        ]
        changed = note_links(lake, audit, links, datetime.now(UTC).replace(tzinfo=None))
    except (LinksError, ContractBreach) as error:
        problem = str(error)
    yield dg.MaterializeResult(
        asset_key=key_of(LINK_CHANGES), metadata=table_metadata(lake, LINK_CHANGES) | {"batch/changes": changed}
    )
    yield dg.AssetCheckResult(
        asset_key=key_of(LINK_CHANGES),
        check_name="readable",
        passed=problem is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=problem,
    )


@dg.multi_asset(
    name="dimensions",
    specs=[
        spec(table, deps=[key_of(above) for above in _DEPS[table]], kinds={"iceberg", "duckdb"}, group=GROUP)
        for table in DIMENSIONS
    ],
    partitions_def=daily,
    can_subset=True,
    backfill_policy=RANGES,
)
def dimensions(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[Any]:
    lake = platform.lake()
    try:
        made = update_dimensions(lake, audit)
    except ContractBreach as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    for table in DIMENSIONS:
        if key_of(table) in context.selected_asset_keys:
            rows = {"batch/rows": made.get(table.full_name, 0)}
            yield dg.MaterializeResult(asset_key=key_of(table), metadata=table_metadata(lake, table) | rows)
