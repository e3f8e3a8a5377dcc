{{ config(staged='view') }}

select
    session_id,
    user_id_hash,
    session_start_ts,
    session_end_ts,
    cast(pageviews as integer) as pageviews,
    cast(chart_interactions as integer) as chart_interactions,
    cast(affiliate_clicks as integer) as affiliate_clicks,
    first_page_url,
    last_page_url,
    ab_variant,
    geo_country,
    event_dt
from {{ ref('int_visits') }}
