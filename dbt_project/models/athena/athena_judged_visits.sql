-- Funnel rows whose segments may have changed elsewhere: none, as whole days are made.
{{ config(schema='scope', alias='judged_visits') }}

select
    session_id,
    session_start_ts,
    user_id_hash,
    segments,
    event_dt
from {{ source('platform_gold', 'fact_funnel') }}
where false
