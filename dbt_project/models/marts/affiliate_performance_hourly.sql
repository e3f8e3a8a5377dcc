-- What links are expected to earn, by hour of the click.
with clicked as (
    select
        event_dt,
        event_hour,
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
    group by event_dt, event_hour, affiliate_link_id, product_id, network, position, ab_variant
),

seen as (
    select date_trunc('hour', ts) as event_hour, coalesce(ab_variant, '(none)') as ab_variant, count(*) as comparison_views
    from {{ ref('fact_page_views') }}
    where is_comparison and event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
    group by date_trunc('hour', ts), coalesce(ab_variant, '(none)')
)

select
    clicked.*,
    coalesce(seen.comparison_views, 0) as comparison_views,
    {{ rate('clicked.comparison_clicks', 'seen.comparison_views') }} as click_through_rate,
    {{ rate('clicked.payout_cents', 'clicked.clicks') }} as epc_cents
from clicked
left join seen on clicked.event_hour = seen.event_hour and clicked.ab_variant = seen.ab_variant
