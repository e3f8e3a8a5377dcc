{{ config(schema='gold', materialized='iceberg_table') }}

{%- set divided = ['linear', 'position_based', 'time_decay', 'markov', 'shapley'] %}
with clicks as (
    select * from {{ ref('int_attribution_clicks') }}
    where event_dt in (select event_dt from {{ ref('int_attribution_days') }})
),

-- A network's conversion is divided along the path to its click: nothing after the click can have led to it.
conversions as (
    select
        'click' as kind,
        clicks.event_id as conversion_id,
        coalesce(clicks.payout_cents, 0) as amount_cents,
        settings.currency,
        clicks.affiliate_network,
        clicks.affiliate_link_id,
        clicks.event_id,
        clicks.event_dt
    from clicks
    cross join {{ source('attribution_scope', 'settings') }} as settings
    where clicks.is_there
    union all
    select
        'report' as kind,
        reports.network || '/' || reports.transaction_id as conversion_id,
        reports.due_cents as amount_cents,
        reports.currency,
        clicks.affiliate_network,
        clicks.affiliate_link_id,
        clicks.event_id,
        clicks.event_dt
    from clicks
    inner join {{ source('gold', 'fact_conversions') }} as reports
        on clicks.event_id = reports.click_event_id and clicks.event_dt = reports.click_dt
    where reports.match = 'matched'
),

numbered as (
    select *, row_number() over (order by event_dt, kind, conversion_id) as conversion from conversions
),

-- Of the paths that there is something to divide on; only numbers, as all of it is sorted for each model.
weighed as (
    select
        numbered.conversion,
        numbered.amount_cents,
        1000000 as million,
        touchpoints.touch,
        1 as linear_weight,
        touchpoints.position_based_weight,
        touchpoints.time_decay_weight,
        -- A channel's weight is shared by its touchpoints, in millionths so that halves and thirds remain.
        {% for model in ('markov', 'shapley') %}
        {{ _whole_quotient(
            'cast(touchpoints.' ~ model ~ '_weight as ' ~ _wide_integer() ~ ') * 1000000', 'touchpoints.of_channel'
        ) }} as {{ model }}_weight{{ ',' if not loop.last }}
        {% endfor %}
    from numbered
    inner join {{ ref('int_attribution_touchpoints') }} as touchpoints
        on numbered.event_id = touchpoints.event_id and numbered.event_dt = touchpoints.event_dt
    where touchpoints.touches > 1
),

divided as (
    {{ largest_remainders('weighed', ['amount_cents', 'million'], divided, ['conversion'], 'touch') | indent(4) }}
)

select
    numbered.kind,
    numbered.conversion_id,
    cast(touchpoints.touch as integer) as touch,
    cast(touchpoints.touches as integer) as touches,
    touchpoints.ts as conversion_ts,
    numbered.amount_cents,
    numbered.currency,
    numbered.affiliate_network,
    numbered.affiliate_link_id,
    touchpoints.user_id_hash,
    touchpoints.session_id,
    touchpoints.session_start_ts,
    touchpoints.channel,
    touchpoints.source,
    touchpoints.medium,
    touchpoints.campaign,
    {%- for amount, whole, suffix in (('amount_cents', 'numbered.amount_cents', 'cents'), ('million', '1000000', 'share')) %}
    {%- for model, place in (
        ('first_touch', '1'),
        ('last_touch', 'touchpoints.touches'),
        ('last_non_direct', 'touchpoints.last_non_direct_touch')
    ) %}
    cast(case when touchpoints.touch = {{ place }} then {{ whole }} else 0 end as bigint) as {{ model }}_{{ suffix }},
    {%- endfor %}
    {%- for model in divided %}
    cast(coalesce(divided.{{ model }}_of_{{ amount }}, {{ whole }}) as bigint) as {{ model }}_{{ suffix }},
    {%- endfor %}
    {%- endfor %}
    numbered.event_dt
from numbered
inner join {{ ref('int_attribution_touchpoints') }} as touchpoints
    on numbered.event_id = touchpoints.event_id and numbered.event_dt = touchpoints.event_dt
left join divided
    on numbered.conversion = divided.conversion and touchpoints.touch = divided.touch
