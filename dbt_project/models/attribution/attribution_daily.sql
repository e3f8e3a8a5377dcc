{{ config(schema='gold', materialized='iceberg_table') }}

{%- set models = [
    'first_touch', 'last_touch', 'last_non_direct', 'linear', 'position_based', 'time_decay', 'markov', 'shapley'
] %}
with totals as (
    select
        kind,
        channel,
        source,
        medium,
        campaign,
        currency,
        event_dt,
        {%- for model in models %}
        sum({{ model }}_share) as {{ model }}_share,
        sum({{ model }}_cents) as {{ model }}_cents{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ ref('fact_attribution') }}
    where event_dt in (select event_dt from {{ ref('int_attribution_days') }})
    group by kind, channel, source, medium, campaign, currency, event_dt
)

{%- for model in models %}

select
    kind,
    '{{ model }}' as model,
    channel,
    source,
    medium,
    campaign,
    currency,
    cast({{ model }}_share as bigint) as conversions_millionths,
    cast({{ model }}_cents as bigint) as amount_cents,
    event_dt
from totals
where {{ model }}_share <> 0 or {{ model }}_cents <> 0
{{ 'union all' if not loop.last }}
{%- endfor %}
