{#- Host of an absolute URL, null without one. -#}
{% macro url_host(url) -%}
    nullif(regexp_extract({{ url }}, '^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#:]+)', 1), '')
{%- endmacro %}

{#- How many distinct values the arrays of an array have in all; null if it is null. -#}
{% macro distinct_in_all(arrays) -%}
    {{ adapter.dispatch('distinct_in_all')(arrays) }}
{%- endmacro %}

{% macro default__distinct_in_all(arrays) -%}
    cardinality(array_distinct(flatten({{ arrays }})))
{%- endmacro %}

{% macro duckdb__distinct_in_all(arrays) -%}
    len(list_distinct(flatten({{ arrays }})))
{%- endmacro %}
