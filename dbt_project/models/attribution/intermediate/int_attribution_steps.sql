{{ config(schema='intermediate', materialized='table') }}

-- Each step of each path of a day, from 1.
select
    journeys.event_dt,
    journeys.path,
    journeys.journeys,
    journeys.converted,
    steps.channel,
    steps.step
from {{ ref('attribution_journeys') }} as journeys
cross join unnest(split(journeys.path, ' > ')) with ordinality as steps (channel, step)
