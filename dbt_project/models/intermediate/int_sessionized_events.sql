-- Every event in scope with its visit, null for an event of nobody. A view: most events need no more than their key.
-- `place` orders the events of a visit; `visit_start` tells visits of one id apart, where there may be several.
{{ config(materialized='view') }}

with placed as (
    select
        {{ all_but([], scope_event_columns(), 'events') }},
        {{ epoch_us('events.ts') }} as place,
        cast(null as timestamp) as visit_start,
        events.session_key as session_id
    from {{ source('scope', 'events') }} as events
    {{ with_cut_events(ref('int_careful_keys'), ref('int_cut_events')) }}
)

select
    *,
    case when event_type = 'page_view' then {{ is_comparison_page('page_url') }} else false end as is_comparison
from placed
