-- Visits and funnel of deduplicated events in one go: what an analyst would write, on defaults of the settings. All that
-- sessions and funnel say but the channel (14 regular expressions) and the visitor's segments.
with keyed as (
    select *, coalesce('s:' || session_id, 'u:' || user_id_hash) as visit_key
    from {events} as events
    where coalesce(session_id, user_id_hash) is not null
),

gaps as (
    select
        *,
        session_id is null
        and coalesce(ts - lag(ts) over (partition by visit_key order by ts) > interval 30 minute, false) as starts_visit
    from keyed
),

numbered as (
    select *, sum(starts_visit::int) over (partition by visit_key order by ts) as visit_number
    from gaps
)

select
    visit_key,
    visit_number,
    min(ts) as session_start_ts,
    max(ts) as session_end_ts,
    count(*) filter (where event_type = 'page_view') as pageviews,
    count(*) filter (where event_type = 'chart_interaction') as chart_interactions,
    count(*) filter (where event_type = 'affiliate_click') as affiliate_clicks,
    arg_min(page_url, ts) as first_page_url,
    arg_max(page_url, ts) as last_page_url,
    arg_min(ab_variant, ts) as ab_variant,
    arg_min(geo_country, ts) as geo_country,
    arg_min(user_id_hash, ts) as user_id_hash,
    arg_min(device, ts) as device,
    arg_min(browser, ts) as browser,
    arg_min(os, ts) as os,
    arg_min(referrer, ts) as referrer,
    arg_min(
        struct_pack(
            source := utm_source, medium := utm_medium, campaign := utm_campaign, term := utm_term, content := utm_content
        ),
        ts
    ) filter (where coalesce(utm_source, utm_medium, utm_campaign, utm_term, utm_content) is not null) as utm,
    count(*) filter (where event_type = 'page_view' and page_url like '%/compare/%') as comparison_views,
    count(*) filter (where chart_action = 'toggle') as toggles,
    count(*) filter (where chart_action = 'sort') as sorts,
    count(*) filter (where chart_action = 'filter') as filters,
    count(*) filter (where chart_action = 'compare_expand') as expands,
    count(*) filter (where lower(chart_control_id) like '%price%') as price_interactions,
    count(*) filter (
        where regexp_matches(lower(concat_ws(' ', chart_control_id, chart_control_value)), 'deal|discount|coupon|trial')
    ) as deal_interactions,
    min(ts) filter (where event_type = 'page_view' and page_url like '%/compare/%') as comparison_ts,
    min(ts) filter (where event_type = 'chart_interaction') as interaction_ts,
    min(ts) filter (where event_type = 'affiliate_click') as click_ts,
    bool_or(event_type = 'page_view' and page_url like '%/compare/%') as saw_comparison,
    bool_or(event_type = 'chart_interaction') as interacted_chart,
    bool_or(event_type = 'affiliate_click') as clicked_affiliate,
    arg_min(affiliate_target, ts) filter (where event_type = 'affiliate_click') as affiliate_target,
    coalesce(sum(payout_cents) filter (where event_type = 'affiliate_click'), 0) as payout_cents,
    min(ts)::date as event_dt
from numbered
group by visit_key, visit_number
