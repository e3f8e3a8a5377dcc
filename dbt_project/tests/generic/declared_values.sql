{#- Rules of a table's declaration that rows break, with how many do. One scan for all rules. -#}
{% test declared_values(model, required, allowed=none, minimum=none) %}
    {{ config(fail_calc='coalesce(sum(failures), 0)') }}

    {%- set rules = {} %}
    {%- for column in required %}
        {%- do rules.update({column ~ ' is required': column ~ ' is null'}) %}
    {%- endfor %}
    {%- for column, values in (allowed or {}).items() %}
        {%- do rules.update({column ~ ' is an allowed value': column ~ " not in ('" ~ values | join("', '") ~ "')"}) %}
    {%- endfor %}
    {%- for column, least in (minimum or {}).items() %}
        {%- do rules.update({column ~ ' is at least ' ~ least: column ~ ' < ' ~ least}) %}
    {%- endfor %}

    with counted as (
        select
            {%- for broken in rules.values() %}
            count(case when {{ broken }} then 1 end) as rule_{{ loop.index }}{{ ',' if not loop.last }}
            {%- endfor %}
        from {{ model }}
    ),

    broken as (
        {%- for rule in rules %}
        select
            '{{ rule }}' as rule,
            rule_{{ loop.index }} as failures
        from counted
        {{ 'union all' if not loop.last }}
        {%- endfor %}
    )

    select
        rule,
        failures
    from broken
    where failures > 0
{% endtest %}
