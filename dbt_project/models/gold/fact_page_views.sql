-- One row a page view and visit. What else happened on the page is told by the page view's id; without one a page view
-- stands alone, as do those of nobody, of which a run sees only the new ones. Most pages are seen and left: only ids with
-- several events are put together, as that costs several times a look at each event.
{{ config(sliced=true) }}

with events as (
    select * from {{ ref('int_sessionized_events') }}
    where {{ in_slice() }}
),

shared as (
    select session_id, page_view_id from events
    where session_id is not null and page_view_id is not null
    group by session_id, page_view_id
    having count(*) > 1
),

page_views as (
    select
        {{ first_of("event_id", "place", "event_type = 'page_view'") }} as event_id,
        page_view_id,
        session_id,
        {{ first_of('user_id_hash', 'place') }} as user_id_hash,
        min(ts) filter (where event_type = 'page_view') as ts,
        max(ts) as last_ts,
        {{ first_of("page_url", "place", "event_type = 'page_view'") }} as page_url,
        {{ first_of("referrer", "place", "event_type = 'page_view'") }} as referrer,
        bool_or(is_comparison) as is_comparison,
        count(*) filter (where event_type = 'chart_interaction') as chart_interactions,
        count(*) filter (where event_type = 'affiliate_click') as affiliate_clicks,
        {{ first_of('ab_variant', 'place') }} as ab_variant,
        {{ first_of('geo_country', 'place') }} as geo_country,
        {{ first_of('device', 'place') }} as device,
        {{ first_of("experiment_keys", "place", "event_type = 'page_view'") }} as experiment_keys
    from (select events.* from events {{ semi_join('shared', 'shared', 'events', ['session_id', 'page_view_id']) }}) as on_shared
    group by session_id, visit_start, page_view_id
    having bool_or(event_type = 'page_view')
    union all
    select
        event_id,
        page_view_id,
        session_id,
        user_id_hash,
        ts,
        ts as last_ts,
        page_url,
        referrer,
        is_comparison,
        0 as chart_interactions,
        0 as affiliate_clicks,
        ab_variant,
        geo_country,
        device,
        experiment_keys
    from events
    {{ anti_join('shared', 'shared', 'events', ['session_id', 'page_view_id'], "event_type = 'page_view'") }}
)

select
    event_id,
    page_view_id,
    session_id,
    user_id_hash,
    ts,
    last_ts,
    {{ epoch_ms('last_ts') }} - {{ epoch_ms('ts') }} as dwell_ms,
    page_url,
    referrer,
    is_comparison,
    cast(chart_interactions as integer) as chart_interactions,
    cast(affiliate_clicks as integer) as affiliate_clicks,
    ab_variant,
    geo_country,
    device,
    experiment_keys,
    cast(ts as date) as event_dt
from page_views
where cast(ts as date) in (select event_dt from {{ source('scope', 'days') }})
