-- Rows of gold.dim_affiliate_link from {link_changes}, and from {affiliate_performance_daily} for what only clicks know.
with versions as (
    select
        *,
        row_number() over newest_last = 1 as is_first,
        lead(as_of) over newest_last as valid_to,
        lead(change) over newest_last as next_change,
        lead(as_of, 2) over newest_last as after_next
    from {link_changes}
    window newest_last as (partition by affiliate_link_id order by as_of)
),

registered as (
    select
        affiliate_link_id,
        product_id,
        network,
        target,
        payout_cents,
        position,
        -- A link that has left the registry keeps its last version, until it comes back.
        case when next_change = 'delete' then valid_to end as retired_at,
        case when is_first then timestamp '1970-01-01' else as_of end as valid_from,
        case when next_change = 'delete' then after_next else valid_to end as valid_to
    from versions
    where change = 'upsert'
),

clicked as (
    select
        affiliate_link_id,
        min(event_dt) as first_click_dt,
        max(event_dt) as last_click_dt,
        cast(sum(clicks) as bigint) as clicks,
        min(network) filter (where network <> '(unknown)') as network
    from {affiliate_performance_daily}
    where affiliate_link_id <> '(unknown)'
    group by affiliate_link_id
),

links as (
    select * from registered
    union all by name
    select affiliate_link_id, network, timestamp '1970-01-01' as valid_from
    from clicked
    where affiliate_link_id not in (select affiliate_link_id from registered)
)

select
    links.*,
    regexp_extract(links.target, '^https://([^/?#]*)', 1) as target_host,
    case
        when links.target is null then 'unknown'
        when bool_or(links.retired_at is not null and links.valid_to is null) over (partition by links.affiliate_link_id)
            then 'retired'
        else 'registered'
    end as state,
    clicked.first_click_dt,
    clicked.last_click_dt,
    coalesce(clicked.clicks, 0) as clicks,
    links.valid_to is null as is_current
from links
left join clicked on links.affiliate_link_id = clicked.affiliate_link_id
