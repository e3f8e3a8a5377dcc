select
    event_id,
    ts,
    session_id,
    user_id_hash,
    affiliate_link_id,
    affiliate_target,
    payout_cents,
    ab_variant,
    geo_country,
    page_view_id,
    click_id,
    affiliate_network,
    affiliate_position,
    affiliate_context,
    event_dt
from {{ ref('int_sessionized_events') }}
where event_type = 'affiliate_click' and event_dt in (select event_dt from {{ source('scope', 'days') }})
