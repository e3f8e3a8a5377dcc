-- An example of the funnel macro: of the visitors who see a comparison page, how many use the chart twice and leave through a
-- link within half an hour, without going to another page after the first use. In dbt_project, on the published file:
-- CHART_HOME=../.chart dbt show --target published --select chart_to_click_in_half_an_hour
with events as (
    select
        user_id_hash,
        ts,
        event_id,
        case when is_comparison then 'comparison' else 'other_page' end as what
    from {{ ref('fact_page_views') }}
    union all
    select
        user_id_hash,
        ts,
        event_id,
        'use' as what
    from {{ ref('fact_chart_interactions') }}
    union all
    select
        user_id_hash,
        ts,
        event_id,
        'click' as what
    from {{ ref('fact_affiliate_clicks') }}
),

visitors as (
    {{ funnel(
        'events',
        [
            {'name': 'saw', 'where': "what = 'comparison'"},
            {'name': 'used', 'where': "what = 'use'"},
            {'name': 'used_again', 'where': "what = 'use'"},
            {'name': 'clicked', 'where': "what = 'click'"},
        ],
        by='user_id_hash',
        window='30 minutes',
        exclude=[{'where': "what = 'other_page'", 'after': 'used'}],
    ) | indent }}
)

select
    count(*) as saw,
    count(used_ts) as used,
    count(used_again_ts) as used_again,
    count(clicked_ts) as clicked,
    count(case when excluded then 1 end) as went_elsewhere,
    {{ quantile('convert_ms', 0.5) }} as median_convert_ms
from visitors
