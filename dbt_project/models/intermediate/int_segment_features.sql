-- What segment rules judge: counts over each window of whole days before the evaluation day. No visit, no row.
with visits as (
    select * from {{ ref('sessions') }}
    where user_id_hash in (select user_id_hash from {{ source('scope', 'evaluations') }})
)

select
    evaluations.user_id_hash,
    evaluations.evaluated_on,
    windows.window_days,
    count(*) as sessions,
    sum(visits.pageviews) as pageviews,
    sum(visits.chart_interactions) as chart_interactions,
    sum(visits.affiliate_clicks) as affiliate_clicks,
    count(distinct visits.event_dt) as days_active
from {{ source('scope', 'evaluations') }} as evaluations
cross join {{ source('scope', 'windows') }} as windows
inner join visits
    on
        evaluations.user_id_hash = visits.user_id_hash
        and visits.event_dt < evaluations.evaluated_on
        and visits.event_dt >= evaluations.evaluated_on - to_days(windows.window_days)
group by evaluations.user_id_hash, evaluations.evaluated_on, windows.window_days
