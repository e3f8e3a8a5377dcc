-- How good visits were, by day, channel and device.
with visits as (
    select
        event_dt,
        coalesce(channel, '(none)') as channel,
        coalesce(device, '(none)') as device,
        user_id_hash,
        engaged,
        pageviews,
        {{ epoch_ms('session_end_ts') }} - {{ epoch_ms('session_start_ts') }} as duration_ms
    from {{ ref('sessions') }}
    where event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
)

select
    event_dt,
    channel,
    device,
    count(*) as visits,
    count(distinct user_id_hash) as visitors,
    count(*) filter (where engaged) as engaged_visits,
    count(*) filter (where not engaged) as bounces,
    cast(sum(pageviews) as bigint) as page_views,
    cast(sum(duration_ms) as bigint) as duration_ms,
    {{ quantile('duration_ms', 0.5) }} as median_duration_ms,
    cast(count(*) filter (where not engaged) as double) / count(*) as bounce_rate
from visits
group by event_dt, channel, device
