"""Which columns a column is made from. Columns of the same name in ``upstream`` need no line of their own.

Belongs here: the declaration, which a test holds against the tables. Does not belong here: SQL.
"""

from __future__ import annotations

from chart_platform.contracts.tables import UTM, table

Source = tuple[str, str]

_EVENTS, _SILVER, _SESSIONS, _SEGMENTS = "bronze.events", "silver.events", "silver.sessions", "silver.user_segments"

_UPSTREAM: dict[str, str] = {
    _SILVER: _EVENTS,
    _SESSIONS: _SILVER,
    _SEGMENTS: _SESSIONS,
    "gold.fact_funnel": _SESSIONS,
    "gold.fact_affiliate_clicks": _SILVER,
}

_MADE_FROM: dict[str, dict[str, list[Source]]] = {
    _SILVER: {
        "session_id": [(_EVENTS, "session")],
        "user_id_hash": [(_EVENTS, "user")],
        "geo_country": [(_EVENTS, "user")],
        **{
            name: [(_EVENTS, "ctx")]
            for name in ("page_url", "referrer", "locale", "user_agent", "ab_variant", "device", "browser", "os")
        },
        **{f"utm_{name}": [(_EVENTS, "session")] for name in UTM},
        **{name: [(_EVENTS, "metadata")] for name in ("experiment_keys", "key_id", "replayed_from")},
        **{f"affiliate_{name}": [(_EVENTS, "affiliate")] for name in ("network", "position", "context")},
        "ads_consent": [(_EVENTS, "privacy")],
        **{
            name: [(_EVENTS, "chart")]
            for name in ("chart_action", "chart_control_id", "chart_control_value", "product_ids")
        },
        **{name: [(_EVENTS, "affiliate")] for name in ("affiliate_link_id", "affiliate_target", "payout_cents")},
        "source_ip_anonymized": [(_EVENTS, "privacy")],
        "event_dt": [(_EVENTS, "ts")],
        "event_hour": [(_EVENTS, "ts")],
    },
    _SESSIONS: {
        "session_id": [(_SILVER, "session_id"), (_SILVER, "user_id_hash"), (_SILVER, "ts")],
        "session_start_ts": [(_SILVER, "ts")],
        "session_end_ts": [(_SILVER, "ts")],
        **{name: [(_SILVER, "event_type")] for name in ("pageviews", "chart_interactions", "affiliate_clicks")},
        "first_page_url": [(_SILVER, "page_url"), (_SILVER, "ts")],
        "last_page_url": [(_SILVER, "page_url"), (_SILVER, "ts")],
        "event_dt": [(_SILVER, "ts")],
    },
    _SEGMENTS: {
        "segment_key": [
            (_SESSIONS, name) for name in ("pageviews", "chart_interactions", "affiliate_clicks", "event_dt")
        ],
        "as_of_ts": [(_SESSIONS, "event_dt")],
        "valid_from": [(_SESSIONS, "event_dt")],
        "valid_to": [(_SESSIONS, "event_dt")],
    },
    "gold.fact_funnel": {
        "saw_comparison": [(_SILVER, "page_url"), (_SILVER, "event_type")],
        "interacted_chart": [(_SILVER, "event_type")],
        "clicked_affiliate": [(_SILVER, "event_type")],
        "affiliate_target": [(_SILVER, "affiliate_target"), (_SILVER, "ts")],
        "payout_cents": [(_SILVER, "payout_cents")],
        "segments": [(_SEGMENTS, "segment_key"), (_SEGMENTS, "valid_from"), (_SEGMENTS, "valid_to")],
    },
    "gold.fact_affiliate_clicks": {"session_id": [(_SESSIONS, "session_id")]},
}


def column_lineage(full_name: str) -> dict[str, list[Source]]:
    """Sources of every column of a table, as (table, column). Bronze comes from messages and has none."""
    if full_name not in _UPSTREAM:
        return {}
    upstream = _UPSTREAM[full_name]
    made = _MADE_FROM[full_name]
    return {c.name: made.get(c.name, [(upstream, c.name)]) for c in table(full_name).columns}
