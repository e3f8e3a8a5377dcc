"""Company data about users: snapshots as found, their changes, the SCD2 dimension."""

from __future__ import annotations

from chart_platform.contracts.tables.declare import TIMESTAMP, B, Column, D, I, S, Table

_PROFILE = (
    Column("crm_tier", S, "Tier that the CRM puts the customer in."),
    Column("country", S, "Country of the customer by the CRM, ISO 3166-1 alpha-2.", sensitivity="personal"),
    Column("signup_date", D, "Day of the customer's registration.", sensitivity="personal"),
    Column("marketing_email", B, "Whether marketing may write e-mail."),
    Column("marketing_ads", B, "Whether marketing may use the profile for advertising."),
)
_PROFILE_UPDATED = Column("updated_at", TIMESTAMP, "When the source last changed the profile, UTC.")

PROFILE_SNAPSHOTS = Table(
    namespace="bronze",
    name="profile_snapshots",
    description="Every look at the company's user profiles: what was found and what came of it.",
    columns=(
        Column("looked_at", TIMESTAMP, "When the platform looked, UTC.", required=True),
        Column("source", S, "Where: a PostgreSQL table or a file. No credentials.", required=True),
        Column("as_of", TIMESTAMP, "The moment that the source speaks of, UTC; null when it could not be read."),
        Column("snapshot_hash", S, "sha256 of the profiles, whatever their order; null when they could not be read."),
        Column(
            "outcome",
            S,
            "changed; same; outdated (a newer one was taken before); refused (columns or keys are wrong); unreachable.",
            required=True,
            allowed=("changed", "same", "outdated", "refused", "unreachable"),
        ),
        Column("profiles", I, "Profiles in the snapshot.", required=True, minimum=0),
        Column("upserted", I, "Profiles that are new or have changed.", required=True, minimum=0),
        Column("deleted", I, "Profiles that are gone.", required=True, minimum=0),
        Column("detail", S, "Why it was refused or could not be reached; columns that were ignored."),
        Column("looked_dt", D, "Day of looked_at, UTC.", required=True),
    ),
    partition_by=("looked_dt",),
    key=("looked_at", "source"),
    day_column="looked_dt",
    sort_by=("looked_at",),
)

PROFILE_CHANGES = Table(
    namespace="bronze",
    name="profile_changes",
    description="What each snapshot of the user profiles changed against the one before. Immutable; gold.dim_user is its fold.",
    columns=(
        Column("user_id_hash", S, "Pseudonymous visitor.", required=True, sensitivity="personal"),
        Column("as_of", TIMESTAMP, "Moment of the snapshot that has the change, UTC.", required=True),
        Column(
            "change",
            S,
            "upsert (new or changed) or delete (gone from the source).",
            required=True,
            allowed=("upsert", "delete"),
        ),
        *_PROFILE,
        _PROFILE_UPDATED,
        Column("as_of_dt", D, "Day of as_of, UTC.", required=True),
    ),
    partition_by=("as_of_dt",),
    key=("user_id_hash", "as_of"),
    day_column="as_of_dt",
    sort_by=("user_id_hash", "as_of"),
)

DIM_USER = Table(
    namespace="gold",
    name="dim_user",
    description="SCD2: what the company knew of a user from when to when. A deleted profile closes its row, a return opens one.",
    columns=(
        Column("user_id_hash", S, "Pseudonymous visitor.", required=True, sensitivity="personal"),
        *_PROFILE,
        _PROFILE_UPDATED,
        Column("valid_from", TIMESTAMP, "First snapshot with this state, UTC, inclusive.", required=True),
        Column("valid_to", TIMESTAMP, "First snapshot without it, UTC, exclusive; null while it lasts."),
        Column("is_current", B, "Whether the state lasts.", required=True),
    ),
    partition_by=("is_current",),
    key=("user_id_hash", "valid_from"),
    sort_by=("user_id_hash", "valid_from"),
    upstream="bronze.profile_changes",
    made_from={
        "valid_from": [("bronze.profile_changes", "as_of")],
        "valid_to": [("bronze.profile_changes", "as_of")],
        "is_current": [("bronze.profile_changes", "as_of"), ("bronze.profile_changes", "change")],
    },
)
