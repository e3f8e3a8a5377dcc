{#- dbt's own, with words for days in a `where`: tests and freshness look at the days that a run has touched. -#}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- if where -%}
        (select * from {{ relation }} where {{ where | replace('__tested_days__', tested_days()) }}) as tested_rows
    {%- else -%}
        {{ relation }}
    {%- endif -%}
{%- endmacro %}


{#- A query of the days whose rows are tested. -#}
{% macro tested_days() -%}
    {{ return(adapter.dispatch('tested_days')()) }}
{%- endmacro %}

{% macro duckdb__tested_days() -%}
    {{ return('select event_dt from tested.days') }}
{%- endmacro %}

{% macro athena__tested_days() -%}
    {{ return("select day from unnest(sequence(current_date - interval '2' day, current_date)) as days (day)") }}
{%- endmacro %}
