-- Rows of gold.visitors: the rows `before`, plus and minus `visits` (sign 1 and -1). Of a visitor whose first or last visit
-- went, either another is there in its place or all visits are.
with changes as (
    select
        user_id_hash,
        cast(sum(sign) as bigint) as visits,
        cast(sum(case when engaged then sign else 0 end) as bigint) as engaged_visits,
        cast(sum(sign * pageviews) as bigint) as page_views,
        cast(sum(sign * comparison_views) as bigint) as comparison_views,
        cast(sum(sign * chart_interactions) as bigint) as interactions,
        cast(sum(sign * affiliate_clicks) as bigint) as clicks,
        cast(sum(sign * payout_cents) as bigint) as payout_cents,
        max(session_end_ts) filter (where sign = 1) as last_seen_ts,
        min(row(session_start_ts, session_id)) filter (where sign = 1) as first_visit
    from visits
    group by user_id_hash
),

first_visits as (
    select visits.*
    from visits
    join changes
        on visits.user_id_hash = changes.user_id_hash and row(visits.session_start_ts, visits.session_id) = changes.first_visit
    left join before on visits.user_id_hash = before.user_id_hash
    where
        visits.sign = 1
        and (
            before.user_id_hash is null
            or changes.first_visit <= row(before.first_seen_ts, before.first_session_id)
        )
),

firsts as (
    select
        user_id_hash,
        event_dt as cohort_dt,
        session_start_ts as first_seen_ts,
        session_id as first_session_id,
        channel as first_channel,
        utm_source as first_utm_source,
        utm_medium as first_utm_medium,
        utm_campaign as first_utm_campaign,
        referrer as first_referrer,
        first_page_url as landing_page_url,
        geo_country as first_country,
        device as first_device,
        ab_variant as first_ab_variant
    from first_visits
    union all
    select
        user_id_hash,
        cohort_dt,
        first_seen_ts,
        first_session_id,
        first_channel,
        first_utm_source,
        first_utm_medium,
        first_utm_campaign,
        first_referrer,
        landing_page_url,
        first_country,
        first_device,
        first_ab_variant
    from before
    where user_id_hash not in (select user_id_hash from first_visits)
)

select
    firsts.*,
    greatest(before.last_seen_ts, changes.last_seen_ts) as last_seen_ts,
    coalesce(before.visits, 0) + changes.visits as visits,
    coalesce(before.engaged_visits, 0) + changes.engaged_visits as engaged_visits,
    coalesce(before.page_views, 0) + changes.page_views as page_views,
    coalesce(before.comparison_views, 0) + changes.comparison_views as comparison_views,
    coalesce(before.interactions, 0) + changes.interactions as interactions,
    coalesce(before.clicks, 0) + changes.clicks as clicks,
    coalesce(before.payout_cents, 0) + changes.payout_cents as payout_cents
from firsts
join changes on firsts.user_id_hash = changes.user_id_hash
left join before on firsts.user_id_hash = before.user_id_hash
where coalesce(before.visits, 0) + changes.visits > 0
