{{ config(schema='intermediate', materialized='view') }}

-- Visits by visitor. Who is not known is a visitor of one visit.
select
    coalesce('u' || user_id_hash, 's' || session_id) as visitor,
    user_id_hash,
    session_id,
    session_start_ts,
    session_end_ts,
    channel,
    utm_source,
    utm_medium,
    utm_campaign,
    referrer,
    first_page_url,
    event_dt
from {{ ref('sessions') }}
