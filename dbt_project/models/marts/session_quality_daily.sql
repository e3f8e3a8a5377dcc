-- How good visits were, by day, channel and device.
with visits as (
    select
        event_dt,
        coalesce(channel, '(none)') as channel,
        coalesce(device, '(none)') as device,
        user_id_hash,
        engaged,
        pageviews,
        chart_interactions,
        affiliate_clicks,
        {{ epoch_ms('session_end_ts') }} - {{ epoch_ms('session_start_ts') }} as duration_ms
    from {{ ref('sessions') }}
    where event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
),

counted as (
    select
        event_dt,
        channel,
        device,
        count(*) as visits,
        count(distinct user_id_hash) as visitors,
        count(*) filter (where engaged) as engaged_visits,
        count(*) filter (where not engaged) as bounces,
        cast(sum(pageviews) as bigint) as page_views,
        count(*) filter (where chart_interactions > 0) as interacting_visits,
        count(*) filter (where affiliate_clicks > 0) as clicking_visits,
        cast(sum(duration_ms) as bigint) as duration_ms,
        {{ quantile('duration_ms', 0.25) }} as p25_duration_ms,
        {{ quantile('duration_ms', 0.5) }} as median_duration_ms,
        {{ quantile('duration_ms', 0.75) }} as p75_duration_ms,
        {{ quantile('duration_ms', 0.9) }} as p90_duration_ms,
        {{ quantile('duration_ms', 0.95) }} as p95_duration_ms
    from visits
    group by event_dt, channel, device
)

select
    *,
    {{ rate('engaged_visits', 'visits') }} as engagement_rate,
    {{ rate('bounces', 'visits') }} as bounce_rate,
    {{ rate('page_views', 'visits') }} as pages_per_visit,
    {{ rate('duration_ms', 'visits') }} as mean_duration_ms
from counted
