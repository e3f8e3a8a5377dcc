-- Rows of gold.retention_daily of the days of {visits}; {visitors}: everybody's first day.
select
    active.event_dt,
    visitors.cohort_dt,
    cast(active.event_dt - visitors.cohort_dt as bigint) as days_since,
    count(*) as visitors,
    cast(sum(active.visits) as bigint) as visits,
    cast(sum(active.page_views) as bigint) as page_views,
    cast(sum(active.interactions) as bigint) as interactions,
    cast(sum(active.clicks) as bigint) as clicks,
    cast(sum(active.payout_cents) as bigint) as payout_cents
from {visitors} as visitors
join (
    select
        user_id_hash,
        event_dt,
        count(*) as visits,
        sum(pageviews) as page_views,
        sum(chart_interactions) as interactions,
        sum(affiliate_clicks) as clicks,
        sum(payout_cents) as payout_cents
    from {visits}
    where user_id_hash is not null
    group by user_id_hash, event_dt
) as active on visitors.user_id_hash = active.user_id_hash
group by active.event_dt, visitors.cohort_dt
