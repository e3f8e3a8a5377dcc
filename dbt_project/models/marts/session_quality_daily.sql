-- How good visits were, by day, channel and device.
select
    event_dt,
    coalesce(channel, '(none)') as channel,
    coalesce(device, '(none)') as device,
    count(*) as visits,
    count(distinct user_id_hash) as visitors,
    count(*) filter (where engaged) as engaged_visits,
    count(*) filter (where not engaged) as bounces,
    sum(pageviews)::bigint as page_views,
    sum(epoch_ms(session_end_ts) - epoch_ms(session_start_ts))::bigint as duration_ms,
    quantile_disc(epoch_ms(session_end_ts) - epoch_ms(session_start_ts), 0.5) as median_duration_ms,
    count(*) filter (where not engaged) / count(*) as bounce_rate
from {{ ref('sessions') }}
where event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
group by all
