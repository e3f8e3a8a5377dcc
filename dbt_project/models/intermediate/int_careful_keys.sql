-- Session keys whose events are put in order and cut: derived ones, those that may be over the cap, and those with two
-- events at one time, or that are in two slices. All others were sent and are one visit each, as a whole.
select session_key
from {{ source('scope', 'extents') }}
group by session_key
having
    starts_with(session_key, '#:')
    or count(*) > 1
    or max(high) - min(low) > {{ session_cap() }}
union
select session_key
from {{ source('scope', 'events') }}
where session_key is not null
group by session_key, ts
having count(*) > 1
{{ or_in_two_slices() }}
