{{ config(schema='gold', materialized='iceberg_table') }}

with seen as (
    select visitor, event_dt, cast(null as timestamp) as click_ts from {{ ref('int_attribution_visits') }}
    union all
    select visitor, event_dt, ts as click_ts from {{ ref('int_attribution_clicks') }} where visitor is not null
),

journeys as (
    select
        visitor,
        event_dt,
        min(click_ts) is not null as converted,
        coalesce(min(click_ts), cast(event_dt as timestamp) + interval '1' day - interval '0.001' second) as end_ts
    from seen
    where event_dt in (select event_dt from {{ source('attribution_scope', 'journey_days') }})
    group by visitor, event_dt
),

steps as (
    select
        journeys.visitor,
        journeys.event_dt,
        journeys.converted,
        visits.channel,
        visits.session_start_ts,
        visits.session_id,
        settings.collapse = 'unique' and lead(visits.session_id) over (
            partition by journeys.visitor, journeys.event_dt, visits.channel
            order by visits.session_start_ts, visits.session_id
        ) is not null as comes_again
    from journeys
    inner join {{ ref('int_attribution_visits') }} as visits on journeys.visitor = visits.visitor
    cross join {{ source('attribution_scope', 'settings') }} as settings
    where visits.session_start_ts between journeys.end_ts - settings.lookback and journeys.end_ts
),

turns as (
    select
        *,
        lag(channel) over (partition by visitor, event_dt order by session_start_ts, session_id) as channel_before
    from steps
    where not comes_again
),

paths as (
    select
        event_dt,
        converted,
        {{ dbt.listagg('channel', "' > '", 'order by session_start_ts, session_id') }} as path
    from turns
    where channel_before is distinct from channel
    group by visitor, event_dt, converted
)

select
    path,
    count(*) as journeys,
    count(*) filter (where converted) as converted,
    event_dt
from paths
group by event_dt, path
