{#- The columns of the scope's events, which Athena must be told where DuckDB takes all. -#}
{% macro scope_event_columns() -%}
    {{ return([
        'session_key', 'event_id', 'event_type', 'ts', 'user_id_hash', 'geo_country', 'page_url', 'referrer', 'ab_variant',
        'experiment_keys', 'device', 'browser', 'os', 'utm_source', 'utm_medium', 'utm_campaign', 'utm_term', 'utm_content',
        'page_view_id', 'chart_action', 'chart_control_id', 'chart_control_value', 'product_ids', 'affiliate_link_id',
        'affiliate_target', 'payout_cents', 'click_id', 'affiliate_network', 'affiliate_position', 'affiliate_context',
        'event_dt'
    ]) }}
{%- endmacro %}


{#- The pieces that the length cap cuts each chain into: session_key, chain, anchor_ts (its first event), piece from 1. -#}
{% macro pieces_under_cap(chained) -%}{{ return(adapter.dispatch('pieces_under_cap')(chained)) }}{%- endmacro %}

{% macro duckdb__pieces_under_cap(chained) -%}
    with recursive anchors as (
        select
            session_key,
            chain,
            min(ts) as anchor_ts,
            1 as piece
        from {{ chained }}
        group by session_key, chain
        union all
        select
            anchors.session_key,
            anchors.chain,
            min(chained.ts) as anchor_ts,
            anchors.piece + 1 as piece
        from anchors
        inner join {{ chained }} as chained
            on
                anchors.session_key = chained.session_key
                and anchors.chain = chained.chain
                and chained.ts - anchors.anchor_ts > {{ session_cap() }}
        group by anchors.session_key, anchors.chain, anchors.piece
    )

    select * from anchors
{%- endmacro %}

{#- Athena ends a recursion after ten steps. -#}
{% macro athena__pieces_under_cap(chained) -%}
    select
        anchored.session_key,
        anchored.chain,
        anchors.anchor_ts,
        anchors.piece,
        lead(anchors.anchor_ts) over (
            partition by anchored.session_key, anchored.chain order by anchors.piece
        ) as next_anchor_ts
    from (
        select
            session_key,
            chain,
            reduce(
                array_agg(ts order by ts),
                cast(array[] as array(timestamp(6))),
                (anchors, ts) -> if(
                    cardinality(anchors) = 0 or ts - element_at(anchors, -1) > {{ session_cap() }}, anchors || ts, anchors
                ),
                anchors -> anchors
            ) as anchors
        from {{ chained }}
        group by session_key, chain
    ) as anchored
    cross join unnest(anchored.anchors) with ordinality as anchors (anchor_ts, piece)
{%- endmacro %}

{#- Joins each event to the piece that it is in. -#}
{% macro last_piece_before(pieces, chained) -%}
    {{ return(adapter.dispatch('last_piece_before')(pieces, chained)) }}
{%- endmacro %}

{% macro duckdb__last_piece_before(pieces, chained) -%}
asof inner join {{ pieces }}
    on
        {{ chained }}.session_key = {{ pieces }}.session_key
        and {{ chained }}.chain = {{ pieces }}.chain
        and {{ chained }}.ts >= {{ pieces }}.anchor_ts
{%- endmacro %}

{% macro athena__last_piece_before(pieces, chained) -%}
inner join {{ pieces }}
    on
        {{ chained }}.session_key = {{ pieces }}.session_key
        and {{ chained }}.chain = {{ pieces }}.chain
        and {{ chained }}.ts >= {{ pieces }}.anchor_ts
        and ({{ pieces }}.next_anchor_ts is null or {{ chained }}.ts < {{ pieces }}.next_anchor_ts)
{%- endmacro %}


{#- Events that no piece concerns, as they are, and the cut ones. Ends the query. -#}
{% macro with_cut_events(careful, cut) -%}{{ return(adapter.dispatch('with_cut_events')(careful, cut)) }}{%- endmacro %}

{% macro duckdb__with_cut_events(careful, cut) -%}
    anti join {{ careful }} as careful on events.session_key = careful.session_key
    union all by name
    select * from {{ cut }}
{%- endmacro %}

{% macro athena__with_cut_events(careful, cut) -%}
    where
        events.session_key is null
        or not exists (select 1 from {{ careful }} as careful where events.session_key = careful.session_key)
    union all
    select {{ scope_event_columns() | join(', ') }}, place, visit_start, session_id from {{ cut }}
{%- endmacro %}
