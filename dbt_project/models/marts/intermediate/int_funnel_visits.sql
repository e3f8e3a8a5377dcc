-- How far each visit came: a comparison seen, then the chart used, then an affiliate click, as in docs/funnels.md. Events of
-- one time count in this order. Where the first of each are in order they are the funnel's, and so they are in most visits;
-- only of the others are the events themselves read.
with visits as (
    select
        *,
        coalesce(comparison_ts is not null and (interaction_ts < comparison_ts or click_ts < interaction_ts), false) as is_tangled
    from {{ ref('fact_funnel') }}
    where event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
),

tangled as (
    select
        visits.session_id,
        visits.session_start_ts,
        visits.comparison_ts,
        sessions.session_end_ts
    from visits
    inner join {{ ref('sessions') }} as sessions
        on visits.session_id = sessions.session_id and visits.session_start_ts = sessions.session_start_ts
    where visits.is_tangled
),

happened as (
    select
        session_id,
        session_start_ts,
        comparison_ts as ts,
        1 as step
    from tangled
    {%- for fact in ['fact_chart_interactions', 'fact_affiliate_clicks'] %}
    union all
    select
        tangled.session_id,
        tangled.session_start_ts,
        events.ts,
        {{ loop.index + 1 }} as step
    from {{ source('history', fact) }} as events
    inner join tangled
        on
            events.session_id = tangled.session_id
            and events.ts between tangled.comparison_ts and tangled.session_end_ts
    {%- endfor %}
),

untangled as (
    {{ funnel(
        'happened',
        [
            {'name': 'comparison', 'where': 'step = 1'},
            {'name': 'interaction', 'where': 'step = 2'},
            {'name': 'click', 'where': 'step = 3'},
        ],
        by=['session_id', 'session_start_ts'],
        tie='step',
    ) | indent }}
),

steps as (
    select
        visits.*,
        case
            when visits.is_tangled then untangled.interaction_ts
            when visits.comparison_ts is not null then visits.interaction_ts
        end as step_2_ts,
        case
            when visits.is_tangled then untangled.click_ts
            when visits.comparison_ts is not null and visits.interaction_ts is not null then visits.click_ts
        end as step_3_ts
    from visits
    left join untangled
        on visits.session_id = untangled.session_id and visits.session_start_ts = untangled.session_start_ts
)

select
    date_trunc('hour', session_start_ts) as hour_ts,
    segments,
    coalesce(ab_variant, '(none)') as ab_variant,
    coalesce(geo_country, '(none)') as geo_country,
    coalesce(device, '(none)') as device,
    coalesce(channel, '(none)') as channel,
    payout_cents,
    comparison_ts is not null as saw_comparison,
    step_2_ts is not null as interacted_chart,
    step_3_ts is not null as clicked_affiliate,
    date_diff('millisecond', comparison_ts, step_2_ts) as to_interaction_ms,
    date_diff('millisecond', step_2_ts, step_3_ts) as to_click_ms,
    date_diff('millisecond', comparison_ts, step_3_ts) as convert_ms,
    event_dt
from steps
