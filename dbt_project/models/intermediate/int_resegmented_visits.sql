-- Visits outside this run's scope whose visitor joined or left a segment on their day: their funnel row's segments
-- are looked up again, as a late event of an earlier day may have changed them.
with judged as (
    select * from {{ source('scope', 'evaluations') }}
),

before as (
    select
        judged.user_id_hash,
        judged.evaluated_on,
        old.segment_key
    from judged
    inner join {{ source('scope', 'old_segments') }} as old
        on
            judged.user_id_hash = old.user_id_hash
            and judged.evaluated_on >= old.valid_from
            and judged.evaluated_on < coalesce(old.valid_to, timestamp 'infinity')
            and judged.evaluated_on <= (select horizon_before from {{ source('scope', 'horizon') }})
),

after as (
    select
        judged.user_id_hash,
        judged.evaluated_on,
        new.segment_key
    from judged
    inner join {{ ref('user_segments') }} as new
        on
            judged.user_id_hash = new.user_id_hash
            and judged.evaluated_on >= new.valid_from
            and judged.evaluated_on < coalesce(new.valid_to, timestamp 'infinity')
),

changed as (
    (select * from before except select * from after)
    union
    (select * from after except select * from before)
)

select
    sessions.session_id,
    sessions.event_dt
from {{ ref('sessions') }} as sessions
semi join changed on sessions.user_id_hash = changed.user_id_hash and sessions.event_dt = changed.evaluated_on
anti join {{ ref('int_visits') }} as visits
    on sessions.session_id = visits.session_id and sessions.event_dt = visits.event_dt
