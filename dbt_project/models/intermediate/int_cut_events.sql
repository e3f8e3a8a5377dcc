-- The events of careful keys with the visit they belong to. Sent session ids are trusted up to the length cap; events
-- without one are cut by the visitor's inactivity gap. A new visit begins iff the gap is greater than the timeout.
-- Greedy cap: a piece starts at the first event over the cap after the start of the piece before.
with pieces as (
    with recursive anchors as (
        select
            session_key,
            chain,
            min(ts) as anchor_ts,
            1 as piece
        from {{ ref('int_chained_events') }}
        group by session_key, chain
        union all
        select
            anchors.session_key,
            anchors.chain,
            min(chained.ts) as anchor_ts,
            anchors.piece + 1 as piece
        from anchors
        inner join {{ ref('int_chained_events') }} as chained
            on
                anchors.session_key = chained.session_key
                and anchors.chain = chained.chain
                and chained.ts - anchors.anchor_ts > (select session_cap from {{ source('scope', 'settings') }})
        group by anchors.session_key, anchors.chain, anchors.piece
    )

    select * from anchors
)

select
    chained.* exclude (chain),
    pieces.anchor_ts as visit_start,
    case
        when starts_with(chained.session_key, '#:')
            then chained.session_key || '#' || epoch_ms(pieces.anchor_ts)
        when pieces.piece > 1
            then chained.session_key || '#' || pieces.piece
        else chained.session_key
    end as session_id
from {{ ref('int_chained_events') }} as chained
asof inner join pieces
    on
        chained.session_key = pieces.session_key
        and chained.chain = pieces.chain
        and chained.ts >= pieces.anchor_ts
