{#- What DuckDB and Athena say differently. Each macro has one form a target; the form of DuckDB is what the exact path
    runs. What both say alike (filter, named windows, interval '10' second, cast, unnest of a split text) needs no macro. -#}


{#- Milliseconds and microseconds since 1970. The platform's clock has milliseconds. -#}
{% macro epoch_ms(moment) -%}{{ return(adapter.dispatch('epoch_ms')(moment)) }}{%- endmacro %}
{% macro duckdb__epoch_ms(moment) -%}epoch_ms({{ moment }}){%- endmacro %}
{% macro athena__epoch_ms(moment) -%}date_diff('millisecond', timestamp '1970-01-01 00:00:00', {{ moment }}){%- endmacro %}

{% macro epoch_us(moment) -%}{{ return(adapter.dispatch('epoch_us')(moment)) }}{%- endmacro %}
{% macro duckdb__epoch_us(moment) -%}epoch_us({{ moment }}){%- endmacro %}
{% macro athena__epoch_us(moment) -%}1000 * {{ athena__epoch_ms(moment) }}{%- endmacro %}


{#- The first or last value by an order, nulls left out; `where` narrows the rows. -#}
{% macro first_of(value, place, where=none) -%}
    {{ return(adapter.dispatch('of_place')('arg_min', 'min_by', value, place, where)) }}
{%- endmacro %}
{% macro last_of(value, place, where=none) -%}
    {{ return(adapter.dispatch('of_place')('arg_max', 'max_by', value, place, where)) }}
{%- endmacro %}
{% macro duckdb__of_place(duckdb, trino, value, place, where) -%}
    {{ duckdb }}({{ value }}, {{ place }}){% if where %} filter (where {{ where }}){% endif %}
{%- endmacro %}
{% macro athena__of_place(duckdb, trino, value, place, where) -%}
    {{ trino }}({{ value }}, {{ place }}) filter (where {% if where %}{{ where }} and {% endif %}{{ value }} is not null)
{%- endmacro %}

{#- A value that is the same in all rows of a group. -#}
{% macro any_of(value) -%}{{ return(adapter.dispatch('any_of')(value)) }}{%- endmacro %}
{% macro duckdb__any_of(value) -%}any_value({{ value }}){%- endmacro %}
{% macro athena__any_of(value) -%}arbitrary({{ value }}){%- endmacro %}

{#- Texts as one value, by name: `utm.source`. -#}
{% macro record_of_texts(fields) -%}{{ return(adapter.dispatch('record_of_texts')(fields)) }}{%- endmacro %}
{% macro duckdb__record_of_texts(fields) -%}
    { {%- for name, value in fields.items() %}'{{ name }}': {{ value }}{{ ', ' if not loop.last }}{% endfor -%} }
{%- endmacro %}
{% macro athena__record_of_texts(fields) -%}
    cast(row({{ fields.values() | join(', ') }}) as row(
        {%- for name in fields %}{{ name }} varchar{{ ', ' if not loop.last }}{% endfor -%}
    ))
{%- endmacro %}


{#- All columns of a relation but some. Athena must be told them: `columns`. -#}
{% macro all_but(left_out, columns, relation=none) -%}
    {{ return(adapter.dispatch('all_but')(left_out, columns, relation ~ '.' if relation else '')) }}
{%- endmacro %}
{% macro duckdb__all_but(left_out, columns, of) -%}
    {{ of }}*{% if left_out %} exclude ({{ left_out | join(', ') }}){% endif %}
{%- endmacro %}
{% macro athena__all_but(left_out, columns, of) -%}
    {%- for name in columns if name not in left_out %}{{ of }}{{ name }}{{ ', ' if not loop.last }}{% endfor -%}
{%- endmacro %}


{#- `from left semi_join(…)`: rows of the left relation with a partner. Athena joins the partners' keys, each once. -#}
{% macro semi_join(relation, alias, left, keys) -%}
    {{ return(adapter.dispatch('semi_join')(relation, alias, left, keys)) }}
{%- endmacro %}
{% macro duckdb__semi_join(relation, alias, left, keys) -%}
    semi join {{ relation }} as {{ alias }} on {{ _equal(left, alias, keys) }}
{%- endmacro %}
{% macro athena__semi_join(relation, alias, left, keys) -%}
    inner join (select distinct {{ keys | join(', ') }} from {{ relation }}) as {{ alias }} on {{ _equal(left, alias, keys) }}
{%- endmacro %}

{#- `from left anti_join(…)`: rows of the left relation without a partner, for which `where` holds. Ends the query. -#}
{% macro anti_join(relation, alias, left, keys, where=none) -%}
    {{ return(adapter.dispatch('anti_join')(relation, alias, left, keys, where)) }}
{%- endmacro %}
{% macro duckdb__anti_join(relation, alias, left, keys, where) -%}
    anti join {{ relation }} as {{ alias }} on {{ _equal(left, alias, keys) }}
    {%- if where %} where {{ where }}{% endif %}
{%- endmacro %}
{% macro athena__anti_join(relation, alias, left, keys, where) -%}
    where not exists (select 1 from {{ relation }} as {{ alias }} where {{ _equal(left, alias, keys) }})
    {%- if where %} and {{ where }}{% endif %}
{%- endmacro %}
{% macro _equal(left, right, keys) -%}
    {%- for key in keys %}{{ left }}.{{ key }} = {{ right }}.{{ key }}{{ ' and ' if not loop.last }}{% endfor -%}
{%- endmacro %}


{#- Lists of texts: none, and the values of a group in their order. -#}
{% macro no_texts() -%}{{ return(adapter.dispatch('no_texts')()) }}{%- endmacro %}
{% macro duckdb__no_texts() -%}cast([] as varchar []){%- endmacro %}
{% macro athena__no_texts() -%}cast(array[] as array(varchar)){%- endmacro %}

{% macro in_order(value) -%}{{ return(adapter.dispatch('in_order')(value)) }}{%- endmacro %}
{% macro duckdb__in_order(value) -%}list({{ value }} order by {{ value }}){%- endmacro %}
{% macro athena__in_order(value) -%}array_agg({{ value }} order by {{ value }}){%- endmacro %}

{#- A number in digits. DuckDB joins it to texts as it is. -#}
{% macro as_text(number) -%}{{ return(adapter.dispatch('as_text')(number)) }}{%- endmacro %}
{% macro duckdb__as_text(number) -%}{{ number }}{%- endmacro %}
{% macro athena__as_text(number) -%}cast({{ number }} as varchar){%- endmacro %}

{#- Whether a text contains another; whether a part of it matches a regular expression. -#}
{% macro contains_text(text, part) -%}{{ return(adapter.dispatch('contains_text')(text, part)) }}{%- endmacro %}
{% macro duckdb__contains_text(text, part) -%}contains({{ text }}, '{{ part }}'){%- endmacro %}
{% macro athena__contains_text(text, part) -%}strpos({{ text }}, '{{ part }}') > 0{%- endmacro %}

{% macro matches(text, pattern) -%}{{ return(adapter.dispatch('matches')(text, pattern)) }}{%- endmacro %}
{% macro duckdb__matches(text, pattern) -%}regexp_matches({{ text }}, '{{ pattern }}'){%- endmacro %}
{% macro athena__matches(text, pattern) -%}regexp_like({{ text }}, '{{ pattern }}'){%- endmacro %}

{#- Whether one of the parts between separators is a word. -#}
{% macro has_part(text, separator, word) -%}{{ return(adapter.dispatch('has_part')(text, separator, word)) }}{%- endmacro %}
{% macro duckdb__has_part(text, separator, word) -%}
    list_contains(string_split({{ text }}, '{{ separator }}'), {{ word }})
{%- endmacro %}
{% macro athena__has_part(text, separator, word) -%}
    contains(split({{ text }}, '{{ separator }}'), {{ word }})
{%- endmacro %}

{#- Later than any moment. -#}
{% macro end_of_time() -%}{{ return(adapter.dispatch('end_of_time')()) }}{%- endmacro %}
{% macro duckdb__end_of_time() -%}timestamp 'infinity'{%- endmacro %}
{% macro athena__end_of_time() -%}timestamp '9999-12-31 00:00:00'{%- endmacro %}


{#- Settings: a relation of the run, or variables of the command (docs/dbt.md). -#}
{% macro session_cap() -%}{{ return(adapter.dispatch('session_cap')()) }}{%- endmacro %}
{% macro duckdb__session_cap() -%}(select session_cap from {{ source('scope', 'settings') }}){%- endmacro %}
{% macro athena__session_cap() -%}interval '{{ var("session_cap_hours", 24) }}' hour{%- endmacro %}

{#- The silence after which a session key begins a new visit, in any case: chart_platform/transform/session_macros.sql. -#}
{% macro session_gap(session_key) -%}{{ return(adapter.dispatch('session_gap')(session_key)) }}{%- endmacro %}
{% macro duckdb__session_gap(session_key) -%}session_gap({{ session_key }}){%- endmacro %}
{% macro athena__session_gap(session_key) -%}
    case
        when starts_with({{ session_key }}, '#:') then interval '{{ var("session_timeout_minutes", 30) }}' minute
        else {{ athena__session_cap() }}
    end
{%- endmacro %}

{% macro comparison_path_segment() -%}{{ return(adapter.dispatch('comparison_path_segment')()) }}{%- endmacro %}
{% macro duckdb__comparison_path_segment() -%}
    (select comparison_path_segment from {{ source('scope', 'settings') }})
{%- endmacro %}
{% macro athena__comparison_path_segment() -%}'{{ var("comparison_path_segment", "compare") }}'{%- endmacro %}
