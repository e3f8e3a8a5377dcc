-- One row a visit in scope, with what sessions and the funnel say of it. First and last are by `place`.
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
        arg_min(device, place) as device,
        arg_min(browser, place) as browser,
        arg_min(os, place) as os,
        arg_min(referrer, place) as referrer,
        arg_min(
            {'source': utm_source, 'medium': utm_medium, 'campaign': utm_campaign, 'term': utm_term, 'content': utm_content},
            place
        ) filter (
            where coalesce(utm_source, utm_medium, utm_campaign, utm_term, utm_content) is not null
        ) as utm,
        count(*) filter (where is_comparison) as comparison_views,
        count(*) filter (where chart_action = 'toggle') as toggles,
        count(*) filter (where chart_action = 'sort') as sorts,
        count(*) filter (where chart_action = 'filter') as filters,
        count(*) filter (where chart_action = 'compare_expand') as expands,
        count(*) filter (where contains(lower(chart_control_id), 'price')) as price_interactions,
        count(*) filter (
            where regexp_matches(lower(concat_ws(' ', chart_control_id, chart_control_value)), 'deal|discount|coupon|trial')
        ) as deal_interactions,
        min(ts) filter (where is_comparison) as comparison_ts,
        min(ts) filter (where event_type = 'chart_interaction') as interaction_ts,
        min(ts) filter (where event_type = 'affiliate_click') as click_ts,
        arg_min(affiliate_target, place) filter (where event_type = 'affiliate_click') as affiliate_target,
        coalesce(sum(payout_cents) filter (where event_type = 'affiliate_click'), 0) as payout_cents
    from {{ ref('int_sessionized_events') }}
    where session_id is not null
    group by session_id, visit_start
)

select
    * exclude (utm),
    utm.source as utm_source,
    utm.medium as utm_medium,
    utm.campaign as utm_campaign,
    utm.term as utm_term,
    utm.content as utm_content,
    {{ channel_group('utm.source', 'utm.medium', 'utm.campaign', 'referrer', 'first_page_url') }} as channel,
    session_end_ts - session_start_ts >= interval 10 second or pageviews >= 2 or affiliate_clicks > 0 as engaged,
    cast(session_start_ts as date) as event_dt
from visits
where cast(session_start_ts as date) in (select event_dt from {{ source('scope', 'days') }})
