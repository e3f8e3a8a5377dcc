-- Every event in scope with the visit it belongs to. Sent session ids are trusted up to the length cap; events without
-- one are cut by the visitor's inactivity gap. A new visit begins iff the gap is greater than the timeout.
with events as (
    select * from {{ source('scope', 'events') }}
    where session_key is not null
),

key_spans as (
    select
        session_key,
        min(ts) as low,
        max(ts) as high
    from events
    group by session_key
),

-- Nearly every key: sent, and within the cap as a whole. One visit, no window needed.
simple_keys as (
    select
        session_key,
        low
    from key_spans
    where
        not starts_with(session_key, '#:')
        and high - low <= (select session_cap from {{ source('scope', 'settings') }})
),

gaps as (
    select
        events.*,
        coalesce(events.ts - lag(events.ts) over in_key > session_gap(events.session_key), false)::integer as starts_chain
    from events
    anti join simple_keys on events.session_key = simple_keys.session_key
    window in_key as (partition by events.session_key order by events.ts, events.event_id)
),

chained as (
    select
        * exclude (starts_chain),
        sum(starts_chain) over (
            partition by session_key order by ts, event_id rows between unbounded preceding and current row
        ) as chain
    from gaps
),

-- Greedy cap: a piece starts at the first event over the cap after the start of the piece before.
pieces as (
    with recursive anchors as (
        select
            session_key,
            chain,
            min(ts) as anchor_ts,
            1 as piece
        from chained
        group by session_key, chain
        union all
        select
            anchors.session_key,
            anchors.chain,
            min(chained.ts) as anchor_ts,
            anchors.piece + 1 as piece
        from anchors
        inner join chained
            on
                anchors.session_key = chained.session_key
                and anchors.chain = chained.chain
                and chained.ts - anchors.anchor_ts > (select session_cap from {{ source('scope', 'settings') }})
        group by anchors.session_key, anchors.chain, anchors.piece
    )

    select * from anchors
),

cut as (
    select
        chained.* exclude (chain),
        pieces.anchor_ts as session_start_ts,
        case
            when starts_with(chained.session_key, '#:')
                then chained.session_key || '#' || epoch_ms(pieces.anchor_ts)
            when pieces.piece > 1
                then chained.session_key || '#' || pieces.piece
            else chained.session_key
        end as session_id
    from chained
    asof inner join pieces
        on
            chained.session_key = pieces.session_key
            and chained.chain = pieces.chain
            and chained.ts >= pieces.anchor_ts
)

select
    events.*,
    simple_keys.low as session_start_ts,
    events.session_key as session_id
from events
inner join simple_keys on events.session_key = simple_keys.session_key
union all by name
select * from cut
