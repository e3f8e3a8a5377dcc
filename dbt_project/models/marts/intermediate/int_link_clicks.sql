-- The clicks of the days to make, each with the link that it counts for. The page it was made on is known by the page view's
-- id, if that began on the same day.
with comparison_pages as (
    select distinct event_dt, session_id, page_view_id
    from {{ ref('fact_page_views') }}
    where is_comparison and event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
)

select
    clicks.event_id,
    clicks.event_dt,
    date_trunc('hour', clicks.ts) as event_hour,
    coalesce(clicks.affiliate_link_id, '(unknown)') as affiliate_link_id,
    coalesce(links.product_id, '(unknown)') as product_id,
    coalesce(clicks.affiliate_network, links.network, '(unknown)') as network,
    coalesce(clicks.affiliate_position, 0) as position,
    coalesce(clicks.ab_variant, '(none)') as ab_variant,
    clicks.session_id,
    comparison_pages.page_view_id is not null as is_on_comparison,
    coalesce(clicks.payout_cents, 0) as payout_cents
from {{ ref('fact_affiliate_clicks') }} as clicks
left join {{ ref('int_links') }} as links on clicks.affiliate_link_id = links.affiliate_link_id
left join comparison_pages
    on
        clicks.event_dt = comparison_pages.event_dt
        and clicks.session_id = comparison_pages.session_id
        and clicks.page_view_id = comparison_pages.page_view_id
where clicks.event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
