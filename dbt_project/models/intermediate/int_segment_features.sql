-- The features that segment rules are written in (docs/segments.md): a row a visitor and day that is judged. A view, so
-- that what no rule names is not computed.
{{ config(materialized='view', enabled=target.type == 'duckdb') }}

{%- set windows = [1, 7, 30] %}
{%- set sums = [
    'pageviews', 'comparison_views', 'chart_interactions', 'toggles', 'sorts', 'filters', 'expands', 'price_interactions',
    'deal_interactions', 'affiliate_clicks', 'payout_cents'
] %}

with days as (
    select
        user_id_hash,
        event_dt,
        count(*) as sessions,
        count(*) filter (where device = 'mobile') as mobile_sessions,
        count(*) filter (where engaged) as engaged_sessions,
        array_agg(distinct {{ url_host('affiliate_target') }}) filter (where affiliate_target is not null) as shops,
        {%- for name in sums %}
        sum({{ name }}) as {{ name }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ ref('sessions') }}
    where user_id_hash in (select user_id_hash from {{ source('scope', 'judged') }})
    group by user_id_hash, event_dt
),

-- The days with visits before each day that is judged; the day alone where there are none.
days_before as (
    select
        evaluations.user_id_hash,
        evaluations.evaluated_on,
        date_diff('day', days.event_dt, evaluations.evaluated_on) as days_ago,
        days.* exclude (user_id_hash, event_dt)
    from {{ source('scope', 'evaluations') }} as evaluations
    left join days
        on
            evaluations.user_id_hash = days.user_id_hash
            and days.event_dt < evaluations.evaluated_on
            and days.event_dt >= evaluations.evaluated_on - {{ windows[-1] }}
),

counted as (
    select
        user_id_hash,
        evaluated_on,
        {%- for window in windows %}
        {%- for name in ['sessions', 'mobile_sessions', 'engaged_sessions'] + sums %}
        cast(coalesce(sum({{ name }}) filter (where days_ago <= {{ window }}), 0) as bigint) as {{ name }}_{{ window }}d,
        {%- endfor %}
        count(days_ago) filter (where days_ago <= {{ window }}) as days_active_{{ window }}d,
        coalesce(
            {{ distinct_in_all('array_agg(shops) filter (where days_ago <= ' ~ window ~ ' and shops is not null)') }}, 0
        ) as shops_clicked_{{ window }}d,
        {%- endfor %}
        min(days_ago) as days_since_last_visit
    from days_before
    group by user_id_hash, evaluated_on
)

select
    counted.*,
    profiles.user_id_hash is not null as has_profile,
    profiles.crm_tier
from counted
left join {{ source('scope', 'profiles') }} as profiles
    on
        counted.user_id_hash = profiles.user_id_hash
        and counted.evaluated_on between profiles.first_on and profiles.last_on
