-- The conversions of the days to make, each with the link that it counts for: that of its click, so that they share a row.
-- Of several clicks with its id, only what all of them share is known.
with conversions as (
    select *, coalesce(click_dt, event_dt) as day
    from {{ source('history', 'fact_conversions') }}
    where coalesce(click_dt, event_dt) in (select event_dt from {{ source('marts_scope', 'days') }})
)

select
    conversions.day as event_dt,
    coalesce(clicks.affiliate_link_id, conversions.affiliate_link_id, '(unknown)') as affiliate_link_id,
    coalesce(clicks.product_id, links.product_id, '(unknown)') as product_id,
    coalesce(clicks.network, conversions.network) as network,
    coalesce(clicks.position, 0) as position,
    coalesce(clicks.ab_variant, conversions.ab_variant, '(none)') as ab_variant,
    conversions.status,
    conversions.currency = {{ payout_currency() }} as is_comparable,
    conversions.due_cents,
    conversions.reversed_cents
from conversions
left join {{ ref('int_link_clicks') }} as clicks
    on conversions.click_event_id = clicks.event_id and conversions.click_dt = clicks.event_dt
left join {{ ref('int_links') }} as links on conversions.affiliate_link_id = links.affiliate_link_id
