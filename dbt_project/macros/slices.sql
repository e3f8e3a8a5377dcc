{#- Large runs in slices of hours, each small enough for its groups to fit in memory. The scope says which slice an event is
    in; events of careful keys, which may be in several, come with the first. A sliced model says `in_slice()` where it
    reads events, and groups only within visits. -#}
{% macro in_slice() -%}{{ return(adapter.dispatch('in_slice')()) }}{%- endmacro %}
{% macro duckdb__in_slice() -%}coalesce(slice, 0) = coalesce(getvariable('slice'), 0){%- endmacro %}
{% macro athena__in_slice() -%}true{%- endmacro %}


{#- Continues a query for keys by those with events in more than one slice. -#}
{% macro or_in_two_slices() -%}{{ return(adapter.dispatch('or_in_two_slices')()) }}{%- endmacro %}

{% macro duckdb__or_in_two_slices() -%}
union
select extents.session_key
from {{ source('scope', 'extents') }} as extents
inner join {{ source('scope', 'slices') }} as slices
    on extents.low < slices.starts_at and slices.starts_at <= extents.high
{%- endmacro %}

{% macro athena__or_in_two_slices() -%}{%- endmacro %}


{#- Statements that make a table of what `sql` gives for each slice. -#}
{% macro made_in_slices(relation, sql) -%}
    {%- set slices = run_query('select count(*) from ' ~ source('scope', 'slices')).columns[0].values()[0] -%}
    {%- for slice in range(slices) %}
    set variable slice = {{ slice }};
    {{ 'create or replace table ' ~ relation ~ ' as' if loop.first else 'insert into ' ~ relation }} (
        {{ sql }}
    );
    {%- endfor %}
    reset variable slice
{%- endmacro %}


{% materialization sliced_table, adapter='duckdb' %}
    {%- set made = this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks) }}
    {% call statement('main') -%}
        {{ made_in_slices(made, compiled_code) }}
    {%- endcall %}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks) }}
    {{ return({'relations': [made]}) }}
{% endmaterialization %}
