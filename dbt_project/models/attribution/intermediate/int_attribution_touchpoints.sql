{{ config(schema='intermediate', materialized='table') }}

-- The path of each click: visits that began within the lookback and not after it, in order.
with steps as (
    select
        clicks.event_id,
        clicks.event_dt,
        clicks.ts,
        visits.user_id_hash,
        visits.session_id,
        visits.session_start_ts,
        coalesce(visits.channel, '(unknown)') as channel,
        visits.utm_source,
        visits.utm_medium,
        visits.utm_campaign,
        visits.referrer,
        visits.first_page_url,
        settings.collapse,
        settings.half_life_ms
    from {{ ref('int_attribution_clicks') }} as clicks
    cross join {{ source('attribution_scope', 'settings') }} as settings
    left join {{ ref('int_attribution_visits') }} as visits
        on
            clicks.visitor = visits.visitor
            and visits.session_start_ts between clicks.ts - settings.lookback and clicks.ts
    where clicks.event_dt in (select event_dt from {{ ref('int_attribution_days') }})
),

turns as (
    select
        *,
        case collapse
            when 'consecutive'
                then coalesce(
                    lead(channel) over (
                        partition by event_dt, event_id order by session_start_ts, session_id
                    ) = channel, false
                )
            when 'unique'
                then lead(session_id) over (
                    partition by event_dt, event_id, channel order by session_start_ts, session_id
                ) is not null
            else false
        end as is_left_out
    from steps
),

path as (
    select
        event_id,
        event_dt,
        ts,
        user_id_hash,
        session_id,
        session_start_ts,
        channel,
        utm_source,
        utm_medium,
        utm_campaign,
        referrer,
        first_page_url,
        half_life_ms,
        row_number() over (partition by event_dt, event_id order by session_start_ts, session_id) as touch,
        count(*) over (partition by event_dt, event_id) as touches,
        count(*) over (partition by event_dt, event_id, channel) as of_channel
    from turns
    where not is_left_out
)

select
    path.event_id,
    path.event_dt,
    path.ts,
    path.user_id_hash,
    path.session_id,
    path.session_start_ts,
    path.channel,
    {%- for name, macro in (('source', traffic_source), ('medium', traffic_medium)) %}
    case
        when path.session_id is null then '(unknown)'
        else {{ macro('path.utm_source', 'path.utm_medium', 'path.utm_campaign', 'path.referrer', 'path.first_page_url') }}
    end as {{ name }},
    {%- endfor %}
    coalesce(nullif(trim(path.utm_campaign), ''), '(not set)') as campaign,
    path.touch,
    path.touches,
    path.of_channel,
    coalesce(
        max(case when path.channel <> 'Direct' then path.touch end) over (partition by path.event_dt, path.event_id),
        path.touches
    ) as last_non_direct_touch,
    case
        when path.touches <= 2 then 1
        when path.touch in (1, path.touches) then 2 * (path.touches - 2)
        else 1
    end as position_based_weight,
    -- Against the last touchpoint, which weighs a billion, however old the path is.
    cast(round(1000000000 * power(
        cast(2 as double),
        coalesce(
            cast({{ epoch_ms('path.session_start_ts') }} - max({{ epoch_ms('path.session_start_ts') }}) over (
                partition by path.event_dt, path.event_id
            ) as double) / path.half_life_ms, 0
        )
    )) as bigint) as time_decay_weight,
    coalesce(markov.weight_ppb, 0) as markov_weight,
    coalesce(shapley.weight_ppb, 0) as shapley_weight
from path
left join {{ ref('attribution_weights') }} as markov
    on markov.model = 'markov' and path.event_dt = markov.event_dt and path.channel = markov.channel
left join {{ ref('attribution_weights') }} as shapley
    on shapley.model = 'shapley' and path.event_dt = shapley.event_dt and path.channel = shapley.channel
