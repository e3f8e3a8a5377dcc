{#- The smallest value that a `fraction` of the values does not exceed, exact. Null without any. -#}
{% macro quantile(value, fraction) -%}
    {{ return(adapter.dispatch('quantile')(value, fraction)) }}
{%- endmacro %}

{% macro duckdb__quantile(value, fraction) -%}
    quantile_disc({{ value }}, {{ fraction }})
{%- endmacro %}

{#- Trino's own is approximate. -#}
{% macro athena__quantile(value, fraction) -%}
    element_at(
        array_sort(array_agg({{ value }}) filter (where {{ value }} is not null)),
        cast(greatest(ceiling({{ fraction }} * count({{ value }})), 1) as integer)
    )
{%- endmacro %}
