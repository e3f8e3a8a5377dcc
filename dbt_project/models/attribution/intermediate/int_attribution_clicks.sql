{{ config(schema='intermediate', materialized='table') }}

-- Clicks of the days to make, each with the visitor of its visit; null where no visit is known.
select
    clicks.event_id,
    clicks.ts,
    clicks.payout_cents,
    clicks.affiliate_network,
    clicks.affiliate_link_id,
    clicks.event_dt,
    visits.visitor
from {{ ref('fact_affiliate_clicks') }} as clicks
left join {{ ref('int_attribution_visits') }} as visits
    on
        clicks.session_id = visits.session_id
        and clicks.ts between visits.session_start_ts and visits.session_end_ts
where
    clicks.event_dt in (select event_dt from {{ source('attribution_scope', 'journey_days') }})
    or clicks.event_dt in (select event_dt from {{ source('attribution_scope', 'weight_days') }})
    or clicks.event_dt in (select event_dt from {{ source('attribution_scope', 'fact_days') }})
