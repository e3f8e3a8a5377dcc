-- What links earned, by day of the click.
with clicked as (
    select
        event_dt,
        affiliate_link_id,
        product_id,
        network,
        position,
        ab_variant,
        count(*) as clicks,
        count(distinct session_id) as clicking_visits,
        count(*) filter (where is_on_comparison) as comparison_clicks,
        cast(sum(payout_cents) as bigint) as payout_cents
    from {{ ref('int_link_clicks') }}
    group by event_dt, affiliate_link_id, product_id, network, position, ab_variant
),

converted as (
    select
        event_dt,
        affiliate_link_id,
        product_id,
        network,
        position,
        ab_variant,
        count(*) as conversions,
        {%- for status in ['pending', 'approved', 'paid'] %}
        cast(sum(case when is_comparable and status = '{{ status }}' then due_cents else 0 end) as bigint) as {{ status }}_cents,
        {%- endfor %}
        cast(sum(case when is_comparable then reversed_cents else 0 end) as bigint) as reversed_cents,
        count(*) filter (where not is_comparable) as other_currency_conversions
    from {{ ref('int_link_conversions') }}
    group by event_dt, affiliate_link_id, product_id, network, position, ab_variant
),

seen as (
    select event_dt, coalesce(ab_variant, '(none)') as ab_variant, count(*) as comparison_views
    from {{ ref('fact_page_views') }}
    where is_comparison and event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
    group by event_dt, coalesce(ab_variant, '(none)')
),

counted as (
    select
        coalesce(clicked.event_dt, converted.event_dt) as event_dt,
        coalesce(clicked.affiliate_link_id, converted.affiliate_link_id) as affiliate_link_id,
        coalesce(clicked.product_id, converted.product_id) as product_id,
        coalesce(clicked.network, converted.network) as network,
        coalesce(clicked.position, converted.position) as position,
        coalesce(clicked.ab_variant, converted.ab_variant) as ab_variant,
        coalesce(clicked.clicks, 0) as clicks,
        coalesce(clicked.clicking_visits, 0) as clicking_visits,
        coalesce(clicked.comparison_clicks, 0) as comparison_clicks,
        coalesce(clicked.payout_cents, 0) as payout_cents,
        coalesce(converted.conversions, 0) as conversions,
        coalesce(converted.pending_cents, 0) as pending_cents,
        coalesce(converted.approved_cents, 0) as approved_cents,
        coalesce(converted.paid_cents, 0) as paid_cents,
        coalesce(converted.reversed_cents, 0) as reversed_cents,
        coalesce(converted.other_currency_conversions, 0) as other_currency_conversions
    from clicked
    full outer join converted
        on
            clicked.event_dt = converted.event_dt
            and clicked.affiliate_link_id = converted.affiliate_link_id
            and clicked.product_id = converted.product_id
            and clicked.network = converted.network
            and clicked.position = converted.position
            and clicked.ab_variant = converted.ab_variant
)

select
    counted.*,
    coalesce(seen.comparison_views, 0) as comparison_views,
    {{ rate('counted.comparison_clicks', 'seen.comparison_views') }} as click_through_rate,
    {{ rate('counted.payout_cents', 'counted.clicks') }} as epc_cents,
    {{ rate('counted.conversions', 'counted.clicks') }} as conversion_rate,
    {{ rate('(counted.pending_cents + counted.approved_cents + counted.paid_cents)', 'counted.clicks') }} as reported_epc_cents
from counted
left join seen on counted.event_dt = seen.event_dt and counted.ab_variant = seen.ab_variant
