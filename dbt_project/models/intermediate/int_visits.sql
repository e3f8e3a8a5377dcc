-- One row a visit in scope, with what sessions and the funnel say of it.
with visits as (
    select
        session_id,
        min(ts) as session_start_ts,
        arg_min(user_id_hash, place) as user_id_hash,
        max(ts) as session_end_ts,
        count(*) filter (where event_type = 'page_view') as pageviews,
        count(*) filter (where event_type = 'chart_interaction') as chart_interactions,
        count(*) filter (where event_type = 'affiliate_click') as affiliate_clicks,
        arg_min(page_url, place) as first_page_url,
        arg_max(page_url, place) as last_page_url,
        arg_min(ab_variant, place) as ab_variant,
        arg_min(geo_country, place) as geo_country,
        coalesce(
            bool_or({{ is_comparison_page('page_url') }}) filter (where event_type = 'page_view'), false
        ) as saw_comparison,
        arg_min(affiliate_target, place) filter (where event_type = 'affiliate_click') as affiliate_target,
        coalesce(sum(payout_cents) filter (where event_type = 'affiliate_click'), 0) as payout_cents
    from {{ ref('int_sessionized_events') }}
    where session_id is not null
    group by session_id, visit_start
)

select
    *,
    cast(session_start_ts as date) as event_dt
from visits
where cast(session_start_ts as date) in (select event_dt from {{ source('scope', 'days') }})
