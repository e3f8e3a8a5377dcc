-- gold.conversion_reconciliation of the days in {days}: event_dt.
-- {clicks}, {conversions}, {products}: relations; {currency}: what the registry's payouts are in.
with clicks as (
    select
        c.event_id,
        c.event_dt,
        c.click_id,
        c.affiliate_network,
        c.affiliate_link_id,
        c.affiliate_context,
        coalesce(c.payout_cents, 0) as expected_cents,
        c.click_id is not null and count(*) over (partition by c.event_dt, c.click_id) > 1 as doubled
    from {clicks} as c
    semi join {days} as d on c.event_dt = d.event_dt
),

conversions as (
    select f.*, coalesce(f.click_dt, f.event_dt) as day
    from {conversions} as f
    where coalesce(f.click_dt, f.event_dt) in (select event_dt from {days})
),

earned as (
    select
        click_event_id,
        click_dt,
        any_value(network order by network) as network,
        bool_and(status = 'reversed') as all_reversed,
        bool_or(currency <> '{currency}') as foreign_currency,
        sum(due_cents) as due_cents
    from conversions
    where match = 'matched'
    group by click_event_id, click_dt
),

explained_clicks as (
    select
        c.event_id,
        c.event_dt,
        coalesce(c.affiliate_network, e.network, '(unknown)') as network,
        coalesce(c.affiliate_link_id, '(unknown)') as affiliate_link_id,
        c.expected_cents,
        case
            when c.doubled then 'duplicate_click_id'
            when e.click_event_id is null and c.click_id is null then 'no_click_id'
            when e.click_event_id is null and c.affiliate_context in ('expired', 'invalid', 'absent') then 'untrusted_click'
            when e.click_event_id is null then 'not_reported'
            when e.all_reversed then 'reversed'
            when e.foreign_currency then 'other_currency'
            when e.due_cents = c.expected_cents then 'agrees'
            else 'amount_differs'
        end as explanation
    from clicks as c
    left join earned as e on c.event_id = e.click_event_id and c.event_dt = e.click_dt
),

explained_conversions as (
    select
        f.day as event_dt,
        f.network,
        coalesce(f.affiliate_link_id, '(unknown)') as affiliate_link_id,
        f.currency,
        f.status,
        f.due_cents,
        f.reversed_cents,
        case
            when f.match = 'ambiguous' then 'duplicate_click_id'
            when f.match <> 'matched' then f.match
            -- The click may have gone since the conversion was matched; the next run matches it again.
            else coalesce(c.explanation, 'unknown_click')
        end as explanation
    from conversions as f
    left join explained_clicks as c
        on f.match = 'matched' and f.click_event_id = c.event_id and f.click_dt = c.event_dt
),

lines as (
    select
        event_dt,
        network,
        affiliate_link_id,
        '{currency}' as currency,
        explanation,
        1 as clicks,
        expected_cents,
        0 as conversions,
        0 as pending_cents,
        0 as approved_cents,
        0 as paid_cents,
        0 as reversed_cents
    from explained_clicks
    union all
    select
        event_dt,
        network,
        affiliate_link_id,
        currency,
        explanation,
        0,
        0,
        1,
        case when status = 'pending' then due_cents else 0 end,
        case when status = 'approved' then due_cents else 0 end,
        case when status = 'paid' then due_cents else 0 end,
        reversed_cents
    from explained_conversions
),

summed as (
    select
        event_dt,
        network,
        affiliate_link_id,
        currency,
        explanation,
        cast(sum(clicks) as bigint) as clicks,
        cast(sum(expected_cents) as bigint) as expected_cents,
        cast(sum(conversions) as bigint) as conversions,
        cast(sum(pending_cents) as bigint) as pending_cents,
        cast(sum(approved_cents) as bigint) as approved_cents,
        cast(sum(paid_cents) as bigint) as paid_cents,
        cast(sum(reversed_cents) as bigint) as reversed_cents
    from lines
    group by all
)

select
    s.*,
    p.product_id,
    case
        when s.currency = '{currency}' and s.explanation <> 'other_currency'
            then s.pending_cents + s.approved_cents + s.paid_cents - s.expected_cents
    end as difference_cents
from summed as s
left join {products} as p on s.affiliate_link_id = p.affiliate_link_id
