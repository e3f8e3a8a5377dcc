{{ config(schema='intermediate', materialized='table') }}

-- Journeys of a day by the set of their channels, written in alphabetical order.
with channels as (
    select distinct event_dt, path, journeys, converted, channel from {{ ref('int_attribution_steps') }}
),

sets as (
    select
        event_dt,
        journeys,
        converted,
        {{ dbt.listagg('channel', "' > '", 'order by channel') }} as channels
    from channels
    group by event_dt, path, journeys, converted
)

select event_dt, channels, cast(sum(journeys) as bigint) as journeys, cast(sum(converted) as bigint) as converted
from sets
group by event_dt, channels
