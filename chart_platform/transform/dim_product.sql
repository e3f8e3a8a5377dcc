-- Rows of gold.dim_product from {dim_affiliate_link}.
with links as (
    select *, bool_or(state = 'registered') over (partition by product_id) as is_registered
    from {dim_affiliate_link}
    where is_current and product_id is not null
),

-- Of a product that is sold, its links in the registry; of another, those that were its last.
shown as (
    select * from links where state = 'registered' or not is_registered
),

clicked as (
    select
        product_id,
        min(first_click_dt) as first_click_dt,
        max(last_click_dt) as last_click_dt,
        cast(sum(clicks) as bigint) as clicks
    from links
    group by product_id
)

select
    shown.product_id,
    case when any_value(shown.is_registered) then 'registered' else 'retired' end as state,
    list(distinct shown.network order by shown.network) as networks,
    count(*) filter (where shown.state = 'registered') as links,
    min(shown.payout_cents) as lowest_payout_cents,
    max(shown.payout_cents) as highest_payout_cents,
    any_value(clicked.first_click_dt) as first_click_dt,
    any_value(clicked.last_click_dt) as last_click_dt,
    any_value(clicked.clicks) as clicks
from shown
join clicked on shown.product_id = clicked.product_id
group by shown.product_id
