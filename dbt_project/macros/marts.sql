{#- How many units of one whole number go to one of another, as a double; null where that is 0. -#}
{% macro rate(numerator, denominator) -%}
    cast({{ numerator }} as double) / nullif({{ denominator }}, 0)
{%- endmacro %}


{#- Currency of the payouts in the link registry: a relation of the run, or a variable of the command. -#}
{% macro payout_currency() -%}{{ return(adapter.dispatch('payout_currency')()) }}{%- endmacro %}
{% macro duckdb__payout_currency() -%}(select payout_currency from {{ source('marts_scope', 'run') }}){%- endmacro %}
{% macro athena__payout_currency() -%}'{{ var("payout_currency", "USD") }}'{%- endmacro %}


{#- The rows of engagement_daily and engagement_hourly: `time` is the column of their own that says when, beside event_dt;
    an hour is the start of one. -#}
{% macro engagement(hourly=false) -%}
    {%- set time = "event_dt, event_hour" if hourly else "event_dt" -%}
    {%- set hour = "date_trunc('hour', ts) as event_hour," if hourly else "" -%}
with events as (
    select
        event_dt,
        {{ hour }}
        coalesce(ab_variant, '(none)') as ab_variant,
        coalesce(device, '(none)') as device,
        coalesce(geo_country, '(none)') as geo_country,
        session_id,
        user_id_hash,
        is_comparison,
        dwell_ms,
        chart_interactions,
        affiliate_clicks,
        cast(null as varchar) as chart_action,
        true as is_page_view
    from {{ ref('fact_page_views') }}
    where event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
    union all
    select
        event_dt,
        {{ hour }}
        coalesce(ab_variant, '(none)') as ab_variant,
        coalesce(device, '(none)') as device,
        coalesce(geo_country, '(none)') as geo_country,
        session_id,
        user_id_hash,
        false as is_comparison,
        0 as dwell_ms,
        0 as chart_interactions,
        0 as affiliate_clicks,
        chart_action,
        false as is_page_view
    from {{ ref('fact_chart_interactions') }}
    where event_dt in (select event_dt from {{ source('marts_scope', 'days') }})
),

counted as (
    select
        {{ time }},
        ab_variant,
        device,
        geo_country,
        count(*) filter (where is_page_view) as page_views,
        count(*) filter (where is_comparison) as comparison_views,
        count(*) filter (where is_comparison and chart_interactions > 0) as interacting_views,
        count(*) filter (where is_comparison and affiliate_clicks > 0) as clicking_views,
        count(distinct session_id) as visits,
        count(distinct user_id_hash) as visitors,
        count(*) filter (where not is_page_view) as interactions,
        count(*) filter (where chart_action = 'toggle') as toggles,
        count(*) filter (where chart_action = 'sort') as sorts,
        count(*) filter (where chart_action = 'filter') as filters,
        count(*) filter (where chart_action = 'compare_expand') as expands,
        count(*) filter (where chart_action = 'compare_collapse') as collapses,
        cast(sum(dwell_ms) as bigint) as dwell_ms,
        cast(coalesce(sum(case when is_comparison then dwell_ms end), 0) as bigint) as comparison_dwell_ms,
        {{ quantile('case when is_comparison then dwell_ms end', 0.5) }} as median_comparison_dwell_ms
    from events
    group by {{ time }}, ab_variant, device, geo_country
)

select
    *,
    {{ rate('interacting_views', 'comparison_views') }} as interaction_rate,
    {{ rate('clicking_views', 'comparison_views') }} as click_rate
from counted
{%- endmacro %}
