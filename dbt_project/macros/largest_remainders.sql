{#- Division of whole amounts in proportion to whole weights, without losing a unit: the method of largest remainders, as
    chart_platform/attribution/apportion.py has it.

        {{ largest_remainders('parts', ['amount_cents'], ['linear'], ['conversion_id'], 'touch') }}

    is a query that adds to the rows of `parts` (among columns of its own) `linear_of_amount_cents`: the row's part of amount_cents, which is
    the same in all rows of one conversion_id, in proportion to its `linear_weight` among them. Weights are not negative; if
    all of a conversion are 0 they count as equal. Units left over go one each to the largest remainders, of equal ones to
    the first by `touch`. All amounts with all weights are divided at once. -#}
{% macro largest_remainders(relation, amounts, weights, whole, place) -%}
    {%- set by_whole = 'partition by ' ~ whole | join(', ') -%}
    select
        *,
        {%- for weight in weights %}
        {%- for amount in amounts %}
        {%- set part = weight ~ '_of_' ~ amount %}
        sign({{ amount }}) * ({{ part }}_floor + case
            when
                row_number() over ({{ by_whole }} order by {{ part }}_remainder desc, {{ place }}) <= {{ part }}_left
                then 1
            else 0
        end) as {{ part }}{{ ',' if not loop.last }}
        {%- endfor %}{{ ',' if not loop.last }}
        {%- endfor %}
    from (
        select
            *,
            {%- for weight in weights %}
            {%- for amount in amounts %}
            {%- set part = weight ~ '_of_' ~ amount %}
            abs({{ amount }}) - sum({{ part }}_floor) over ({{ by_whole }}) as {{ part }}_left{{ ',' if not loop.last }}
            {%- endfor %}{{ ',' if not loop.last }}
            {%- endfor %}
        from (
            select
                *,
                {%- for weight in weights %}
                {%- for amount in amounts %}
                {%- set part = weight ~ '_of_' ~ amount %}
                {%- set share = 'cast(abs(' ~ amount ~ ') as ' ~ _wide_integer() ~ ') * ' ~ weight ~ '_parts' %}
                cast({{ _whole_quotient(share, weight ~ '_all') }} as bigint) as {{ part }}_floor,
                mod({{ share }}, {{ weight }}_all) as {{ part }}_remainder{{ ',' if not loop.last }}
                {%- endfor %}{{ ',' if not loop.last }}
                {%- endfor %}
            from (
                select
                    *,
                    {%- for weight in weights %}
                    sum({{ weight }}_parts) over ({{ by_whole }}) as {{ weight }}_all{{ ',' if not loop.last }}
                    {%- endfor %}
                from (
                    select
                        *,
                        {%- for weight in weights %}
                        cast(case
                            when sum({{ weight }}_weight) over ({{ by_whole }}) = 0 then 1 else {{ weight }}_weight
                        end as {{ _wide_integer() }}) as {{ weight }}_parts{{ ',' if not loop.last }}
                        {%- endfor %}
                    from {{ relation }}
                ) as parts
            ) as wholes
        ) as floors
    ) as remainders
{%- endmacro %}

{% macro _wide_integer() -%}{{ adapter.dispatch('wide_integer')() }}{%- endmacro %}
{% macro default__wide_integer() -%}decimal(38, 0){%- endmacro %}
{% macro duckdb__wide_integer() -%}hugeint{%- endmacro %}

{#- How often one whole number goes into another. -#}
{% macro _whole_quotient(number, divisor) -%}{{ adapter.dispatch('whole_quotient')(number, divisor) }}{%- endmacro %}
{% macro default__whole_quotient(number, divisor) -%}({{ number }} - mod({{ number }}, {{ divisor }})) / {{ divisor }}{%- endmacro %}
{% macro duckdb__whole_quotient(number, divisor) -%}({{ number }}) // {{ divisor }}{%- endmacro %}
