-- gold.fact_conversions rows of the conversions in {touched}: network, transaction_id.
-- {reports}, {clicks}, {products}: relations; {window_days}: how many days before it a conversion's click may be.
with reported as (
    select
        r.*,
        row_number() over newest_last as place,
        count(*) over (partition by r.network, r.transaction_id) as reports,
        (r.status, r.commission_cents, r.sale_amount_cents) is distinct from lag(
            (r.status, r.commission_cents, r.sale_amount_cents)
        ) over newest_last as changed
    from {reports} as r
    semi join {touched} as t on r.network = t.network and r.transaction_id = t.transaction_id
    window newest_last as (
        partition by r.network, r.transaction_id
        order by r.updated_ts asc nulls first, r.received_at, r.file_hash, r.record
    )
),

histories as (
    select
        network,
        transaction_id,
        -- A later report may leave the sub-id out.
        max_by(click_id, place) filter (click_id is not null) as click_id,
        max(abs(commission_cents)) as largest_cents,
        min(received_at) as first_seen_at,
        list(
            {{
                'status': status,
                'commission_cents': commission_cents,
                'sale_amount_cents': sale_amount_cents,
                'updated_ts': updated_ts,
                'received_at': received_at
            }}
            order by place
        ) filter (changed) as history
    from reported
    group by network, transaction_id
),

latest as (
    select
        r.* exclude (click_id),
        h.click_id,
        h.largest_cents,
        h.first_seen_at,
        h.history,
        cast(r.event_ts as date) as event_dt
    from reported as r
    join histories as h on r.network = h.network and r.transaction_id = h.transaction_id
    where r.place = r.reports
),

candidates as (
    select
        l.network,
        l.transaction_id,
        count(*) as found,
        min(c.event_id) as event_id,
        -- Of several clicks, only what all of them share is known.
        case when count(c.event_dt) = count(*) and min(c.event_dt) = max(c.event_dt) then min(c.event_dt) end as click_dt,
        case when min(c.ts) = max(c.ts) then min(c.ts) end as click_ts,
        case
            when count(c.affiliate_link_id) = count(*) and min(c.affiliate_link_id) = max(c.affiliate_link_id)
                then min(c.affiliate_link_id)
        end as affiliate_link_id,
        case
            when count(c.payout_cents) = count(*) and min(c.payout_cents) = max(c.payout_cents) then min(c.payout_cents)
        end as expected_payout_cents,
        case
            when count(c.session_id) = count(*) and min(c.session_id) = max(c.session_id) then min(c.session_id)
        end as session_id,
        case
            when count(c.ab_variant) = count(*) and min(c.ab_variant) = max(c.ab_variant) then min(c.ab_variant)
        end as ab_variant
    from latest as l
    join {clicks} as c
        on l.click_id = c.click_id
        -- A click of another network is not the one this network speaks of.
        and coalesce(c.affiliate_network, l.network) = l.network
        -- A day ahead, as the click's day may be by the visitor's clock.
        and c.event_dt between l.event_dt - interval {window_days} day and l.event_dt + interval 1 day
    group by l.network, l.transaction_id
)

select
    l.network,
    l.transaction_id,
    l.status,
    l.event_ts,
    l.updated_ts,
    l.currency,
    l.sale_amount_cents,
    l.commission_cents,
    case when l.status = 'reversed' then 0 else l.commission_cents end as due_cents,
    case when l.status = 'reversed' then l.largest_cents else 0 end as reversed_cents,
    l.click_id,
    case
        when l.click_id is null then 'no_click_id'
        when c.found is null then 'unknown_click'
        when c.found = 1 then 'matched'
        else 'ambiguous'
    end as match,
    case when c.found = 1 then c.event_id end as click_event_id,
    c.click_dt,
    c.click_ts,
    c.affiliate_link_id,
    p.product_id,
    c.expected_payout_cents,
    c.session_id,
    c.ab_variant,
    l.first_seen_at,
    l.received_at as last_seen_at,
    l.reports,
    l.history,
    l.event_dt
from latest as l
left join candidates as c on l.network = c.network and l.transaction_id = c.transaction_id
left join {products} as p on c.affiliate_link_id = p.affiliate_link_id
