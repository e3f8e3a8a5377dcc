{{ config(schema='gold', materialized='iceberg_table') }}

{%- set divided = ['linear', 'position', 'time_decay', 'markov', 'shapley'] %}
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

touchpoints as (
    select
        conversions.*,
        touchpoints.ts as conversion_ts,
        touchpoints.user_id_hash,
        touchpoints.session_id,
        touchpoints.session_start_ts,
        touchpoints.channel,
        touchpoints.utm_campaign,
        case when touchpoints.session_id is null then '(unknown)' else {{ traffic_source(
            'touchpoints.utm_source', 'touchpoints.utm_medium', 'touchpoints.utm_campaign',
            'touchpoints.referrer', 'touchpoints.first_page_url'
        ) }} end as source,
        case when touchpoints.session_id is null then '(unknown)' else {{ traffic_medium(
            'touchpoints.utm_source', 'touchpoints.utm_medium', 'touchpoints.utm_campaign',
            'touchpoints.referrer', 'touchpoints.first_page_url'
        ) }} end as medium,
        touchpoints.touch,
        touchpoints.touches,
        touchpoints.last_non_direct_touch,
        1000000 as million,
        1 as linear_weight,
        touchpoints.position_weight,
        touchpoints.time_decay_weight,
        -- A channel's weight is shared by its touchpoints, in millionths so that halves and thirds remain.
        {% for model in ('markov', 'shapley') %}
        {{ _whole_quotient('cast(touchpoints.' ~ model ~ '_weight as ' ~ _wide_integer() ~ ') * 1000000', 'touchpoints.of_channel') }}
        as {{ model }}_weight{{ ',' if not loop.last }}
        {% endfor %}
    from conversions
    inner join {{ ref('int_attribution_touchpoints') }} as touchpoints
        on conversions.event_id = touchpoints.event_id and conversions.event_dt = touchpoints.event_dt
),

divided as (
    {{ largest_remainders(
        'touchpoints', ['amount_cents', 'million'], divided, ['event_dt', 'kind', 'conversion_id'], 'touch'
    ) | indent(4) }}
)

select
    kind,
    conversion_id,
    cast(touch as integer) as touch,
    cast(touches as integer) as touches,
    conversion_ts,
    amount_cents,
    currency,
    affiliate_network,
    affiliate_link_id,
    user_id_hash,
    session_id,
    session_start_ts,
    channel,
    source,
    medium,
    coalesce(nullif(trim(utm_campaign), ''), '(not set)') as campaign,
    {%- for amount, suffix in (('amount_cents', 'cents'), ('million', 'share')) %}
    cast(case when touch = 1 then {{ amount }} else 0 end as bigint) as first_touch_{{ suffix }},
    cast(case when touch = touches then {{ amount }} else 0 end as bigint) as last_touch_{{ suffix }},
    cast(case when touch = last_non_direct_touch then {{ amount }} else 0 end as bigint) as last_non_direct_{{ suffix }},
    cast(linear_of_{{ amount }} as bigint) as linear_{{ suffix }},
    cast(position_of_{{ amount }} as bigint) as position_based_{{ suffix }},
    cast(time_decay_of_{{ amount }} as bigint) as time_decay_{{ suffix }},
    cast(markov_of_{{ amount }} as bigint) as markov_{{ suffix }},
    cast(shapley_of_{{ amount }} as bigint) as shapley_{{ suffix }},
    {%- endfor %}
    event_dt
from divided
