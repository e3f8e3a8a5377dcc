-- One row a visit in scope, with what sessions and the funnel say of it. First and last are by `place`.
{{ config(materialized='sliced_table' if target.type == 'duckdb' else 'table') }}

with visits as (
    select
        session_id,
        min(ts) as session_start_ts,
        {{ first_of('user_id_hash', 'place') }} as user_id_hash,
        max(ts) as session_end_ts,
        count(*) filter (where event_type = 'page_view') as pageviews,
        count(*) filter (where event_type = 'chart_interaction') as chart_interactions,
        count(*) filter (where event_type = 'affiliate_click') as affiliate_clicks,
        {{ first_of('page_url', 'place') }} as first_page_url,
        {{ last_of('page_url', 'place') }} as last_page_url,
        {{ first_of('ab_variant', 'place') }} as ab_variant,
        {{ first_of('geo_country', 'place') }} as geo_country,
        {{ first_of('device', 'place') }} as device,
        {{ first_of('browser', 'place') }} as browser,
        {{ first_of('os', 'place') }} as os,
        {{ first_of('referrer', 'place') }} as referrer,
        {{ first_of(
            record_of_texts({
                'source': 'utm_source', 'medium': 'utm_medium', 'campaign': 'utm_campaign',
                'term': 'utm_term', 'content': 'utm_content'
            }),
            'place',
            'coalesce(utm_source, utm_medium, utm_campaign, utm_term, utm_content) is not null'
        ) }} as utm,
        count(*) filter (where is_comparison) as comparison_views,
        count(*) filter (where chart_action = 'toggle') as toggles,
        count(*) filter (where chart_action = 'sort') as sorts,
        count(*) filter (where chart_action = 'filter') as filters,
        count(*) filter (where chart_action = 'compare_expand') as expands,
        count(*) filter (where {{ contains_text('lower(chart_control_id)', 'price') }}) as price_interactions,
        count(*) filter (
            where {{ matches("lower(concat_ws(' ', chart_control_id, chart_control_value))", 'deal|discount|coupon|trial') }}
        ) as deal_interactions,
        min(ts) filter (where is_comparison) as comparison_ts,
        min(ts) filter (where event_type = 'chart_interaction') as interaction_ts,
        min(ts) filter (where event_type = 'affiliate_click') as click_ts,
        {{ first_of("affiliate_target", "place", "event_type = 'affiliate_click'") }} as affiliate_target,
        coalesce(sum(payout_cents) filter (where event_type = 'affiliate_click'), 0) as payout_cents
    from {{ ref('int_sessionized_events') }}
    where session_id is not null and {{ in_slice() }}
    group by session_id, visit_start
)

select
    {{ all_but(['utm'], [
        'session_id', 'session_start_ts', 'user_id_hash', 'session_end_ts', 'pageviews', 'chart_interactions',
        'affiliate_clicks', 'first_page_url', 'last_page_url', 'ab_variant', 'geo_country', 'device', 'browser',
        'os', 'referrer', 'comparison_views', 'toggles', 'sorts', 'filters', 'expands', 'price_interactions',
        'deal_interactions', 'comparison_ts', 'interaction_ts', 'click_ts', 'affiliate_target', 'payout_cents'
    ]) }},
    utm.source as utm_source,
    utm.medium as utm_medium,
    utm.campaign as utm_campaign,
    utm.term as utm_term,
    utm.content as utm_content,
    {{ channel_group('utm.source', 'utm.medium', 'utm.campaign', 'referrer', 'first_page_url') }} as channel,
    session_end_ts - session_start_ts >= interval '10' second or pageviews >= 2 or affiliate_clicks > 0 as engaged,
    cast(session_start_ts as date) as event_dt
from visits
where cast(session_start_ts as date) in (select event_dt from {{ source('scope', 'days') }})
