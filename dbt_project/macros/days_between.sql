{#- A relation of one column, `day`: every day from first to last, both ISO texts. -#}
{% macro days_between(first, last) -%}
    {{ return(adapter.dispatch('days_between')(first, last)) }}
{%- endmacro %}

{% macro duckdb__days_between(first, last) -%}
    (select unnest(generate_series(date '{{ first }}', date '{{ last }}', interval 1 day)) as day)
{%- endmacro %}

{% macro athena__days_between(first, last) -%}
    unnest(sequence(date '{{ first }}', date '{{ last }}', interval '1' day)) as days (day)
{%- endmacro %}
