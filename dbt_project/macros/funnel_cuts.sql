{#-
    The funnel of int_funnel_visits by `period` (columns), cut by nothing and by each of `alone` and `pairs` of dimensions.
    A cut has one row a value: a full cross of the dimensions would have more rows than visits. Dimensions that a cut doesn't
    have are '(all)'. A visitor is in several segments or in '(none)', so segments don't add up to all visits.
-#}
{% macro funnel_cuts(period, alone, pairs=[]) -%}
    {%- set dimensions = ['segment', 'geo_country', 'device', 'channel', 'ab_variant'] -%}
    {%- set cuts = [[]] -%}
    {%- for name in alone -%}{%- do cuts.append([name]) -%}{%- endfor -%}
    {%- do cuts.extend(pairs) -%}

with visits as (
    select * from {{ ref('int_funnel_visits') }}
),

in_segments as (
    {{ each_of('visits', "case when cardinality(segments) = 0 then array['(none)'] else segments end", 'segment') }}
),

counts as (
    {%- for of_segments in [false, true] %}
    {%- set grouped = [] %}
    {%- for cut in cuts if ('segment' in cut) == of_segments %}{% do grouped.append(cut) %}{% endfor %}
    {%- if grouped %}
    {%- if of_segments %}
    union all
    {%- endif %}
    select
        {{ period | join(', ') }},
        {%- for name in dimensions %}
        {%- if name in (grouped | sum(start=[])) %}
        case when grouping({{ name }}) = 0 then {{ name }} else '(all)' end as {{ name }},
        case when grouping({{ name }}) = 0 then '+{{ name }}' else '' end as by_{{ name }},
        {%- else %}
        '(all)' as {{ name }},
        '' as by_{{ name }},
        {%- endif %}
        {%- endfor %}
        count(*) as visits,
        count(*) filter (where saw_comparison) as saw_comparison,
        count(*) filter (where interacted_chart) as interacted_chart,
        count(*) filter (where clicked_affiliate) as clicked_affiliate,
        {%- for measure in ['to_interaction_ms', 'to_click_ms', 'convert_ms'] %}
        {{ quantile(measure, 0.5) }} as median_{{ measure }},
        {{ quantile(measure, 0.9) }} as p90_{{ measure }},
        {%- endfor %}
        cast(sum(payout_cents) as bigint) as payout_cents
    from {{ 'in_segments' if of_segments else 'visits' }}
    group by grouping sets (
        {%- for cut in grouped %}
        ({{ (period + cut) | join(', ') }}){{ ',' if not loop.last }}
        {%- endfor %}
    )
    {%- endif %}
    {%- endfor %}
)

select
    {{ period | join(', ') }},
    coalesce(nullif(substr({% for name in dimensions %}{{ ' || ' if not loop.first }}by_{{ name }}{% endfor %}, 2), ''), '(all)') as cut,
    {{ dimensions | join(', ') }},
    visits,
    saw_comparison,
    interacted_chart,
    clicked_affiliate,
    visits - saw_comparison as lost_before_comparison,
    saw_comparison - interacted_chart as lost_before_interaction,
    interacted_chart - clicked_affiliate as lost_before_click,
    {#- Of two integers, in every dialect. #}
    cast(saw_comparison as double) / nullif(visits, 0) as comparison_rate,
    cast(interacted_chart as double) / nullif(saw_comparison, 0) as interaction_rate,
    cast(clicked_affiliate as double) / nullif(interacted_chart, 0) as click_rate,
    cast(clicked_affiliate as double) / nullif(saw_comparison, 0) as conversion_rate,
    median_to_interaction_ms,
    p90_to_interaction_ms,
    median_to_click_ms,
    p90_to_click_ms,
    median_convert_ms,
    p90_convert_ms,
    payout_cents
from counts
{%- endmacro %}


{#- The rows of a relation once for each element of a list. In DuckDB a join with unnest takes three times as long. -#}
{% macro each_of(relation, elements, name) -%}
    {{ return(adapter.dispatch('each_of')(relation, elements, name)) }}
{%- endmacro %}

{% macro duckdb__each_of(relation, elements, name) -%}
    select
        *,
        unnest({{ elements }}) as {{ name }}
    from {{ relation }}
{%- endmacro %}

{% macro athena__each_of(relation, elements, name) -%}
    select
        {{ relation }}.*,
        elements.{{ name }}
    from {{ relation }}
    cross join unnest({{ elements }}) as elements ({{ name }})
{%- endmacro %}
