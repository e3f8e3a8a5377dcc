"""What a table's declaration is, and the types and columns that several tables share.

Belongs here: ``Column``, ``Table`` and what is derived from one declaration. Does not belong here: the tables
themselves (the modules beside), SQL, I/O, or how a table is filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from chart_platform.contracts.events import event_schema

Source = tuple[str, str]
"""Full name of a table, and one of its columns."""

Sensitivity = Literal["public", "internal", "personal", "financial"]

# Iceberg keeps microseconds; the platform's clock is milliseconds, and what it writes is truncated to them.
TIMESTAMP = pa.timestamp("us")
TEXTS = pa.list_(pa.string())
EVENT_TYPES: tuple[str, ...] = tuple(event_schema()["properties"]["event_type"]["enum"])


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``required`` is NOT NULL; ``allowed`` lists its values, ``minimum`` bounds a number from below.
    ``unit`` is told where name, type and description don't tell it (``contracts.dictionary`` reads it from them)."""

    name: str
    type: pa.DataType
    description: str
    required: bool = False
    sensitivity: Sensitivity = "internal"
    allowed: tuple[str, ...] | None = None
    minimum: int | None = None
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """A table: ``key`` names the columns that identify a row, ``partition_by`` its identity partition columns,
    ``sort_by`` the order of rows in a file, ``day_column`` the date column that a Dagster partition selects.
    ``rows_per_file`` bounds what a change of one row rewrites, so it is smaller where rows of the day still change.
    ``made_from`` says which columns a column is made from; those of the same name in ``upstream`` need no line in it.
    """

    namespace: str
    name: str
    description: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...]
    key: tuple[str, ...]
    day_column: str | None = None
    sort_by: tuple[str, ...] = ()
    owner: str = "data-platform@chart-platform.example"
    rows_per_file: int = 500_000
    upstream: str = ""
    made_from: Mapping[str, Sequence[Source]] = field(default_factory=dict, compare=False)
    arrow: pa.Schema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = [pa.field(c.name, c.type, nullable=not c.required) for c in self.columns]
        object.__setattr__(self, "arrow", pa.schema(fields))

    @property
    def full_name(self) -> str:
        return f"{self.namespace}.{self.name}"

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    def lineage(self) -> dict[str, list[Source]]:
        """Sources of every column, as (table, column). Bronze comes from outside and has none."""
        if not self.upstream:
            return {}
        return {c.name: list(self.made_from.get(c.name, [(self.upstream, c.name)])) for c in self.columns}


def struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct([pa.field(name, kind) for name, kind in fields.items()])


S, I, D, B = pa.string(), pa.int64(), pa.date32(), pa.bool_()  # noqa: E741

EVENT_DT = Column("event_dt", D, "Event day, UTC.", required=True)
USER = Column("user_id_hash", S, "Pseudonymous visitor.", sensitivity="personal")
VARIANT = Column("ab_variant", S, "Experiment variant.")
COUNTRY = Column("geo_country", S, "ISO 3166-1 alpha-2 country.")
UTM: tuple[str, ...] = tuple(event_schema()["properties"]["session"]["properties"]["utm"]["properties"])
CLICK = (
    Column("click_id", S, "Identity of the click handed to the affiliate network as its sub-id."),
    Column("affiliate_network", S, "Network that pays for the link."),
    Column("affiliate_position", I, "Place of the link on the chart, from 1 at the top.", minimum=0),
    Column(
        "affiliate_context",
        S,
        "What vouches for visit, page view, variant and position of a redirected click: signed, expired, invalid or "
        "absent; null for a click that did not come by the redirect.",
    ),
)
PAYOUT = Column("payout_cents", I, "Expected affiliate payout, cents.", sensitivity="financial", minimum=0)

PRODUCT = Column("product_id", S, "Product of the link, by the link registry.")
DEVICE = Column("device", S, "Class of the client: desktop, mobile, tablet, tv, bot or other.")
CHANNEL = Column("channel", S, "Default channel group of the visit by GA4's rules.")
