-- What campaigns brought, by day of the visit.
{%- set tagged = ['sessions.utm_source', 'sessions.utm_medium', 'sessions.utm_campaign'] %}
{%- set came_from = tagged + ['sessions.referrer', 'sessions.first_page_url'] %}
with visits as (
    select
        sessions.event_dt,
        coalesce(sessions.channel, '(none)') as channel,
        {{ traffic_source(*came_from) }} as source,
        {{ traffic_medium(*came_from) }} as medium,
        coalesce(nullif(trim(sessions.utm_campaign), ''), '(not set)') as campaign,
        sessions.user_id_hash,
        visitors.user_id_hash is not null as is_first,
        sessions.engaged,
        sessions.pageviews,
        sessions.comparison_views,
        sessions.chart_interactions,
        sessions.affiliate_clicks,
        sessions.payout_cents
    from {{ ref('sessions') }} as sessions
    left join {{ source('gold', 'visitors') }} as visitors
        on
            sessions.user_id_hash = visitors.user_id_hash
            and sessions.session_id = visitors.first_session_id
            and sessions.session_start_ts = visitors.first_seen_ts
    where sessions.event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
),

counted as (
    select
        event_dt,
        channel,
        source,
        medium,
        campaign,
        count(*) as visits,
        count(distinct user_id_hash) as visitors,
        count(*) filter (where is_first) as new_visitors,
        count(*) filter (where engaged) as engaged_visits,
        cast(sum(pageviews) as bigint) as page_views,
        cast(sum(comparison_views) as bigint) as comparison_views,
        cast(sum(chart_interactions) as bigint) as interactions,
        count(*) filter (where chart_interactions > 0) as interacting_visits,
        cast(sum(affiliate_clicks) as bigint) as clicks,
        count(*) filter (where affiliate_clicks > 0) as clicking_visits,
        cast(sum(payout_cents) as bigint) as payout_cents
    from visits
    group by event_dt, channel, source, medium, campaign
)

select
    *,
    {{ rate('engaged_visits', 'visits') }} as engagement_rate,
    {{ rate('clicking_visits', 'visits') }} as conversion_rate,
    {{ rate('payout_cents', 'clicks') }} as epc_cents,
    {{ rate('payout_cents', 'visits') }} as payout_cents_per_visit
from counted
