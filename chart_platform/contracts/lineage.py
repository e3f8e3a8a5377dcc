"""Which columns a column is made from. Columns of the same name in ``upstream`` need no line of their own.

Belongs here: the declaration, which a test holds against the tables. Does not belong here: SQL.
"""

from __future__ import annotations

from chart_platform.contracts.tables import UTM, table

Source = tuple[str, str]

_EVENTS, _SILVER, _SESSIONS, _SEGMENTS = "bronze.events", "silver.events", "silver.sessions", "silver.user_segments"
_CLICKS, _REPORTS, _CONVERSIONS = "gold.fact_affiliate_clicks", "bronze.conversion_reports", "gold.fact_conversions"
_PROFILES = "bronze.profile_changes"

_UPSTREAM: dict[str, str] = {
    _SILVER: _EVENTS,
    _SESSIONS: _SILVER,
    _SEGMENTS: _SESSIONS,
    "gold.fact_funnel": _SESSIONS,
    "gold.fact_affiliate_clicks": _SILVER,
    _CONVERSIONS: _REPORTS,
    "gold.conversion_reconciliation": _CONVERSIONS,
    "gold.dim_user": _PROFILES,
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
    _CONVERSIONS: {
        "due_cents": [(_REPORTS, "commission_cents"), (_REPORTS, "status")],
        "reversed_cents": [(_REPORTS, "commission_cents"), (_REPORTS, "status")],
        "match": [(_REPORTS, "click_id"), (_CLICKS, "click_id"), (_CLICKS, "affiliate_network")],
        "click_event_id": [(_CLICKS, "event_id")],
        "click_dt": [(_CLICKS, "event_dt")],
        "click_ts": [(_CLICKS, "ts")],
        "product_id": [(_CLICKS, "affiliate_link_id")],
        "expected_payout_cents": [(_CLICKS, "payout_cents")],
        **{name: [(_CLICKS, name)] for name in ("affiliate_link_id", "session_id", "ab_variant")},
        "first_seen_at": [(_REPORTS, "received_at")],
        "last_seen_at": [(_REPORTS, "received_at")],
        "reports": [(_REPORTS, "record")],
        "history": [
            (_REPORTS, name)
            for name in ("status", "commission_cents", "sale_amount_cents", "updated_ts", "received_at")
        ],
        "event_dt": [(_REPORTS, "event_ts")],
    },
    "gold.conversion_reconciliation": {
        "network": [(_CLICKS, "affiliate_network"), (_CONVERSIONS, "network")],
        "affiliate_link_id": [(_CLICKS, "affiliate_link_id"), (_CONVERSIONS, "affiliate_link_id")],
        "product_id": [(_CLICKS, "affiliate_link_id")],
        "explanation": [
            (_CLICKS, "click_id"),
            (_CLICKS, "affiliate_context"),
            (_CLICKS, "payout_cents"),
            (_CONVERSIONS, "match"),
            (_CONVERSIONS, "status"),
            (_CONVERSIONS, "due_cents"),
        ],
        "clicks": [(_CLICKS, "event_id")],
        "expected_cents": [(_CLICKS, "payout_cents")],
        "conversions": [(_CONVERSIONS, "transaction_id")],
        **{
            f"{name}_cents": [(_CONVERSIONS, "due_cents"), (_CONVERSIONS, "status")]
            for name in ("pending", "approved", "paid")
        },
        "reversed_cents": [(_CONVERSIONS, "reversed_cents")],
        "difference_cents": [(_CONVERSIONS, "due_cents"), (_CLICKS, "payout_cents")],
        "event_dt": [(_CONVERSIONS, "click_dt"), (_CONVERSIONS, "event_dt"), (_CLICKS, "event_dt")],
    },
    "gold.dim_user": {
        "valid_from": [(_PROFILES, "as_of")],
        "valid_to": [(_PROFILES, "as_of")],
        "is_current": [(_PROFILES, "as_of"), (_PROFILES, "change")],
    },
}


def column_lineage(full_name: str) -> dict[str, list[Source]]:
    """Sources of every column of a table, as (table, column). Bronze comes from messages and has none."""
    if full_name not in _UPSTREAM:
        return {}
    upstream = _UPSTREAM[full_name]
    made = _MADE_FROM[full_name]
    return {c.name: made.get(c.name, [(upstream, c.name)]) for c in table(full_name).columns}
