{{ config(schema='intermediate', materialized='table') }}

-- Journeys of a day by the steps of a Markov chain, with its start and its ends.
with steps as (
    select
        event_dt,
        coalesce(lag(channel) over (partition by event_dt, path order by step), '(start)') as origin,
        channel as target,
        journeys
    from {{ ref('int_attribution_steps') }}
),

last_steps as (
    select event_dt, path, journeys, converted, max_by(channel, step) as channel
    from {{ ref('int_attribution_steps') }}
    group by event_dt, path, journeys, converted
),

transitions as (
    select event_dt, origin, target, journeys from steps
    union all
    select event_dt, channel as origin, '(conversion)' as target, converted as journeys from last_steps
    union all
    select event_dt, channel as origin, '(null)' as target, journeys - converted as journeys from last_steps
)

select event_dt, origin, target, cast(sum(journeys) as bigint) as journeys
from transitions
where journeys > 0
group by event_dt, origin, target
