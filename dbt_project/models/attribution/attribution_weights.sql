{{ config(schema='gold', materialized='iceberg_table') }}

{% if target.type == 'athena' -%}
-- Weights are computed by the platform.
select
    model,
    channel,
    weight_ppb,
    effect_ppb,
    journeys,
    converted,
    event_dt
from {{ source('platform_gold', 'attribution_weights') }}
{% else -%}
-- `markov_weights` and `shapley_weights` are Python (chart_platform/attribution/weights.py): all journeys of a training
-- window to (channel, weight_ppb, effect_ppb).
with windows as (
    select
        days.event_dt as weight_dt,
        days.event_dt - cast(settings.training_days - 1 as integer) as first_dt
    from {{ source('attribution_scope', 'weight_days') }} as days
    cross join {{ source('attribution_scope', 'settings') }} as settings
    -- A day without journeys has nothing to divide by weights.
    where days.event_dt in (select event_dt from {{ ref('int_attribution_sets') }})
),

transitions as (
    select
        windows.weight_dt,
        transitions.origin,
        transitions.target,
        cast(sum(transitions.journeys) as bigint) as journeys
    from windows
    inner join {{ ref('int_attribution_transitions') }} as transitions
        on transitions.event_dt between windows.first_dt and windows.weight_dt
    group by windows.weight_dt, transitions.origin, transitions.target
),

sets as (
    select
        windows.weight_dt,
        sets.channels,
        cast(sum(sets.journeys) as bigint) as journeys,
        cast(sum(sets.converted) as bigint) as converted
    from windows
    inner join {{ ref('int_attribution_sets') }} as sets
        on sets.event_dt between windows.first_dt and windows.weight_dt
    group by windows.weight_dt, sets.channels
),

evidence as (
    select
        sets.weight_dt,
        members.channel,
        cast(sum(sets.journeys) as bigint) as journeys,
        cast(sum(sets.converted) as bigint) as converted
    from sets
    cross join unnest(split(sets.channels, ' > ')) as members (channel)
    group by sets.weight_dt, members.channel
),

weighed as (
    select
        weight_dt,
        'markov' as model,
        markov_weights(array_agg(origin), array_agg(target), array_agg(journeys)) as weights
    from transitions
    group by weight_dt
    union all
    select
        weight_dt,
        'shapley' as model,
        shapley_weights(array_agg(channels), array_agg(journeys), array_agg(converted)) as weights
    from sets
    group by weight_dt
),

weights as (
    select weighed.weight_dt, weighed.model, one.weight.channel, one.weight.weight_ppb, one.weight.effect_ppb
    from weighed
    cross join unnest(weighed.weights) as one (weight)
)

select
    weights.model,
    weights.channel,
    weights.weight_ppb,
    weights.effect_ppb,
    evidence.journeys,
    evidence.converted,
    weights.weight_dt as event_dt
from weights
inner join evidence on weights.weight_dt = evidence.weight_dt and weights.channel = evidence.channel
{% endif %}
