-- First and last event of each session key.
{{ config(schema='scope', alias='extents') }}

select
    session_key,
    min(ts) as low,
    max(ts) as high
from {{ ref('athena_events') }}
where session_key is not null
group by session_key
