-- New and returning visitors of a day. A visitor is new on the whole day of the first visit.
with visits as (
    select
        sessions.event_dt,
        case
            when sessions.user_id_hash is null then '(unknown)'
            when visitors.user_id_hash is not null then 'new'
            else 'returning'
        end as visitor_type,
        sessions.user_id_hash,
        sessions.pageviews,
        sessions.chart_interactions,
        sessions.affiliate_clicks,
        sessions.payout_cents
    from {{ ref('sessions') }} as sessions
    left join {{ source('gold', 'visitors') }} as visitors
        on sessions.user_id_hash = visitors.user_id_hash and sessions.event_dt = visitors.cohort_dt
    where sessions.event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
)

select
    event_dt,
    visitor_type,
    count(distinct user_id_hash) as visitors,
    count(*) as visits,
    cast(sum(pageviews) as bigint) as page_views,
    cast(sum(chart_interactions) as bigint) as interactions,
    cast(sum(affiliate_clicks) as bigint) as clicks,
    cast(sum(payout_cents) as bigint) as payout_cents
from visits
group by event_dt, visitor_type
