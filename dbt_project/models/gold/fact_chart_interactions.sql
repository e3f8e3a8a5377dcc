select
    event_id,
    ts,
    session_id,
    user_id_hash,
    page_view_id,
    chart_action,
    chart_control_id,
    chart_control_value,
    product_ids,
    page_url,
    ab_variant,
    geo_country,
    device,
    event_dt
from {{ ref('int_sessionized_events') }}
where event_type = 'chart_interaction' and event_dt in (select event_dt from {{ source('scope', 'days') }})
