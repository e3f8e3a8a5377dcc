-- Visits outside this run's scope whose funnel row no longer lists the segments of its visitor: a late event of an
-- earlier day may have changed them, or the days between had not been judged when the row was made. Compared with the
-- funnel itself, so that a run cut short after user_segments is made good.
with memberships as (
    {{ segments_at_start(source('scope', 'judged_visits')) }}
)

select
    judged.session_id,
    judged.session_start_ts
from {{ source('scope', 'judged_visits') }} as judged
left join memberships
    on judged.session_id = memberships.session_id and judged.session_start_ts = memberships.session_start_ts
{{ anti_join(
    ref('int_visits'), 'visits', 'judged', ['session_id', 'session_start_ts'],
    'coalesce(memberships.segments, ' ~ no_texts() ~ ') <> judged.segments'
) }}
