-- The events of careful keys in their order (`place`), and the chain of events without a silence that each is in.
with events as (
    select events.*
    from {{ source('scope', 'events') }} as events
    {{ semi_join(ref('int_careful_keys'), 'careful', 'events', ['session_key']) }}
),

gaps as (
    select
        *,
        cast(coalesce(ts - lag(ts) over in_key > {{ session_gap('session_key') }}, false) as integer) as starts_chain,
        row_number() over in_key as place
    from events
    window in_key as (partition by session_key order by ts, event_id)
)

select
    {{ all_but(['starts_chain', 'slice'], scope_event_columns() + ['place']) }},
    sum(starts_chain) over (
        partition by session_key order by place rows between unbounded preceding and current row
    ) as chain
from gaps
