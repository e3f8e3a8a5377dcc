-- The events of careful keys with the visit they belong to. Sent session ids are trusted up to the length cap; events
-- without one are cut by the visitor's inactivity gap. A new visit begins iff the gap is greater than the timeout.
-- Greedy cap: a piece starts at the first event over the cap after the start of the piece before.
with pieces as (
    {{ pieces_under_cap(ref('int_chained_events')) }}
)

select
    {{ all_but(['chain'], scope_event_columns() + ['place'], 'chained') }},
    pieces.anchor_ts as visit_start,
    case
        when starts_with(chained.session_key, '#:')
            then chained.session_key || '#' || {{ as_text(epoch_ms('pieces.anchor_ts')) }}
        when pieces.piece > 1
            then chained.session_key || '#' || {{ as_text('pieces.piece') }}
        else chained.session_key
    end as session_id
from {{ ref('int_chained_events') }} as chained
{{ last_piece_before('pieces', 'chained') }}
