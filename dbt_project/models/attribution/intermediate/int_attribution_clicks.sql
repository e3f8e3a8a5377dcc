{{ config(schema='intermediate', materialized='table') }}

-- Clicks of the days to make, each with the visitor of its visit; null where no visit is known. A click that a network
-- has reported, and that is there no more, keeps the money of the report in its place.
with days as (
    select event_dt from {{ source('attribution_scope', 'journey_days') }}
    union
    select event_dt from {{ source('attribution_scope', 'weight_days') }}
    union
    select event_dt from {{ source('attribution_scope', 'fact_days') }}
),

clicks as (
    select * from {{ ref('fact_affiliate_clicks') }}
    where event_dt in (select event_dt from days)
),

lost as (
    select distinct
        reports.click_event_id as event_id,
        reports.click_ts as ts,
        reports.network as affiliate_network,
        reports.affiliate_link_id,
        reports.click_dt as event_dt
    from {{ source('gold', 'fact_conversions') }} as reports
    left join clicks on reports.click_event_id = clicks.event_id and reports.click_dt = clicks.event_dt
    where reports.match = 'matched' and reports.click_dt in (select event_dt from days) and clicks.event_id is null
)

select
    clicks.event_id,
    clicks.ts,
    clicks.payout_cents,
    clicks.affiliate_network,
    clicks.affiliate_link_id,
    clicks.event_dt,
    visits.visitor,
    true as is_there
from clicks
left join {{ ref('int_attribution_visits') }} as visits
    on
        clicks.session_id = visits.session_id
        and clicks.ts between visits.session_start_ts and visits.session_end_ts
union all
select
    event_id,
    ts,
    cast(null as bigint) as payout_cents,
    affiliate_network,
    affiliate_link_id,
    event_dt,
    cast(null as varchar) as visitor,
    false as is_there
from lost
