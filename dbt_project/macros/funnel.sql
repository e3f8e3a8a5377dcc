{#-
    How far each key got through `steps`: one row a key that reached any, with the attempt of it that got furthest, of
    several the one that began first. docs/funnels.md says what an attempt is.

    events   relation, CTE, or subquery in parentheses; one row an event
    steps    list of {name, where}; `where` is a predicate over the columns of `events`, null counts as false
    by       column or columns of the key; events with a null in it, or without a time, are left out
    time     column of the time, a timestamp; tie: column or columns that put events of one time in order
    mode     ordered (other events may lie between two steps), strict (none may), unordered
    window   '30 minutes': how long after the attempt's first event a step may come; none: any time
    exclude  list of {where, after, before}: an event that matches while the attempt is past step `after` and not yet at
             step `before` ends it, also if it matches the next step; without them, after the first and before the last

    Columns: the key, reached (steps), <name>_ts of every step (null when not reached), convert_ms (first to last step,
    ms; null unless all were reached), and with `exclude` excluded (whether an exclusion ended the attempt).

    By running counts: the next event of a step is the one whose count is one more, and no excluded event lies between two
    events that have the same count of them. That is one sort of the events and a hash join a step, in any dialect.
-#}
{% macro funnel(events, steps, by, time='ts', tie='event_id', mode='ordered', window=none, exclude=[]) -%}
    {%- set keys = [by] if by is string else by -%}
    {%- set ties = [tie] if tie is string else tie -%}
    {%- set names = steps | map(attribute='name') | list -%}
    {{- check_funnel(steps, keys, mode, exclude) -}}
    {%- set unordered, strict = mode == 'unordered', mode == 'strict' -%}
    {%- set start = 'step_0' if unordered else 'step_1' -%}
    {%- set limit = 'null' if window is none else start ~ '.funnel_ts + ' ~ funnel_interval(window) -%}
    {#- Nothing can end an attempt before the events do, so none gets further than the first. -#}
    {%- set one_attempt = window is none and not exclude and not strict -%}

    {#- Steps with the same predicate share a count. -#}
    {%- set kinds = [] -%}
    {%- for step in steps if step.where not in kinds -%}{%- do kinds.append(step.where) -%}{%- endfor -%}

    {#- For each step, which exclusions bar the way to it. -#}
    {%- set barred = [] -%}
    {%- for name in names -%}
        {%- set i, here = loop.index0, [] -%}
        {%- for rule in exclude if unordered
            or names.index(rule.after | default(names[0])) < i <= names.index(rule.before | default(names[-1])) -%}
            {%- do here.append(exclude.index(rule) + 1) -%}
        {%- endfor -%}
        {%- do barred.append(here) -%}
    {%- endfor -%}

    {%- set so_far -%}
        over (
            partition by {{ keys | join(', ') }}
            order by funnel_ts{% for _ in ties %}, funnel_tie_{{ loop.index }} nulls last{% endfor %}
            rows between unbounded preceding and current row
        )
    {%- endset -%}

with funnel_events as (
    select
        {{ keys | join(', ') }},
        {{ time }} as funnel_ts
        {%- for column in ties %},
        {{ column }} as funnel_tie_{{ loop.index }}
        {%- endfor %}
        {%- for where in kinds %},
        case when {{ where }} then 1 else 0 end as is_{{ loop.index }}
        {%- endfor %}
        {%- for rule in exclude %},
        case when {{ rule.where }} then 1 else 0 end as bars_{{ loop.index }}
        {%- endfor %}
    from {{ events }} as events
    where {{ time }} is not null{% for key in keys %} and {{ key }} is not null{% endfor %}
),

funnel_counts as (
    select
        {{ keys | join(', ') }},
        funnel_ts,
        count(*) {{ so_far }} as place
        {%- for _ in kinds %},
        is_{{ loop.index }},
        count(nullif(is_{{ loop.index }}, 0)) {{ so_far }} as n_{{ loop.index }}
        {%- endfor %}
        {%- for _ in exclude %},
        count(nullif(bars_{{ loop.index }}, 0)) {{ so_far }} as barred_{{ loop.index }},
        {#- From the last event to the first, as a frame that only grows is cheap everywhere. #}
        min(case when bars_{{ loop.index }} = 1 then funnel_ts end) over (
            partition by {{ keys | join(', ') }}
            order by funnel_ts desc{% for _ in ties %}, funnel_tie_{{ loop.index }} desc nulls first{% endfor %}
            rows between unbounded preceding and 1 preceding
        ) as next_bar_{{ loop.index }}
        {%- endfor %}
    from funnel_events
    {%- if not strict %}
    where 1 in (
        {%- for _ in kinds %}{{ ', ' if not loop.first }}is_{{ loop.index }}{% endfor %}
        {%- for _ in exclude %}, bars_{{ loop.index }}{% endfor -%}
    )
    {%- endif %}
),

funnel_attempts as (
    select
        {% for key in keys %}{{ start }}.{{ key }}, {% endfor %}{{ start }}.place
        {%- for _ in steps %},
        step_{{ loop.index }}.funnel_ts as ts_{{ loop.index }}
        {%- endfor %},
        {% for _ in steps -%}
            {{ ' + ' if not loop.first }}case when step_{{ loop.index }}.place is null then 0 else 1 end
        {%- endfor %} as reached
        {%- if exclude %},
        coalesce(
        {%- set bars = [] -%}
        {%- for rules in barred %}{% set i = loop.index -%}
            {%- for rule in rules -%}
                {%- set bar = (start if unordered else 'step_' ~ (i - 1)) ~ '.next_bar_' ~ rule -%}
                {%- do bars.append('(step_' ~ i ~ '.place is null and ' ~ bar ~ (' is not null' if window is none else ' <= ' ~ limit) ~ ')') -%}
            {%- endfor -%}
        {%- endfor -%}
        {{ bars | join(' or ') }}, false) as excluded
        {%- endif %}
    from funnel_counts as {{ start }}
    {%- for step in steps %}
    {%- set i, kind, alias = loop.index, kinds.index(step.where) + 1, 'step_' ~ loop.index %}
    {%- set origin = start if unordered else 'step_' ~ (i - 1) %}
    {%- if alias != start %}
    left join funnel_counts as {{ alias }}
        on
            {% for key in keys %}{{ alias }}.{{ key }} = {{ origin }}.{{ key }} and {% endfor %}{{ alias }}.is_{{ kind }} = 1
            {%- if strict %}
            and {{ alias }}.place = {{ origin }}.place + 1
            {%- elif unordered %}
            {%- set times = steps[:i] | selectattr('where', 'equalto', step.where) | list | length %}
            and {{ alias }}.n_{{ kind }} = {{ origin }}.n_{{ kind }} - {{ origin }}.is_{{ kind }} + {{ times }}
            {%- else %}
            and {{ alias }}.n_{{ kind }} = {{ origin }}.n_{{ kind }} + 1
            {%- endif %}
            {%- for rule in barred[i - 1] %}
            and {{ alias }}.barred_{{ rule }} = {{ origin }}.barred_{{ rule }}
            {%- endfor %}
            {%- if window is not none %}
            and {{ alias }}.funnel_ts <= {{ limit }}
            {%- endif %}
    {%- endif %}
    {%- endfor %}
    where 1 in (
        {%- for _ in (kinds if unordered else kinds[:1]) %}{{ ', ' if not loop.first }}{{ start }}.is_{{ loop.index }}{% endfor -%}
        )
        {%- if one_attempt %} and {{ start }}.{{ 'place' if unordered else 'n_1' }} = 1{% endif %}
),

funnel_choices as (
    select
        *,
        {% if one_attempt %}1{% else %}row_number() over (partition by {{ keys | join(', ') }} order by reached desc, place){% endif %} as choice
    from funnel_attempts
)

select
    {{ keys | join(', ') }},
    cast(reached as integer) as reached
    {%- for name in names %},
    ts_{{ loop.index }} as {{ name }}_ts
    {%- endfor %},
    {%- set times = 'ts_' ~ (range(1, names | length + 1) | join(', ts_')) %}
    case when reached = {{ names | length }} then date_diff('millisecond',
        {%- if unordered and names | length > 1 %} least({{ times }}), greatest({{ times }})
        {%- else %} ts_1, ts_{{ names | length }}{% endif -%}
    ) end as convert_ms
    {%- if exclude %},
    excluded
    {%- endif %}
from funnel_choices
where choice = 1
{%- endmacro %}


{#- '30 minutes' as an interval of seconds, minutes, hours or days in any dialect. -#}
{% macro funnel_interval(window) -%}
    {%- set parts = (window | string).split() -%}
    {%- set unit = parts[-1] | lower -%}
    {%- set unit = unit[:-1] if unit.endswith('s') else unit -%}
    {%- if parts | length != 2 or not parts[0].isdigit() or unit not in ['second', 'minute', 'hour', 'day'] -%}
        {{- exceptions.raise_compiler_error(
            "funnel: window '" ~ window ~ "' is no whole number of seconds, minutes, hours or days, as '30 minutes'."
        ) -}}
    {%- endif -%}
    interval '{{ parts[0] }}' {{ unit }}
{%- endmacro %}


{#- Refuses what is no funnel. Gives no text. -#}
{% macro check_funnel(steps, keys, mode, exclude) -%}
    {%- set names = steps | map(attribute='name') | list -%}
    {%- set columns = keys + ['reached', 'convert_ms', 'excluded'] -%}
    {%- set problems = [] -%}
    {%- if mode not in ['ordered', 'strict', 'unordered'] -%}
        {%- do problems.append("mode '" ~ mode ~ "' is none of ordered, strict, unordered") -%}
    {%- endif -%}
    {%- if not steps -%}{%- do problems.append('there are no steps') -%}{%- endif -%}
    {%- for step in steps -%}
        {%- if not step.name or not step.where -%}
            {%- do problems.append('step ' ~ loop.index ~ ' needs a name and a where') -%}
        {%- elif not modules.re.match('[a-z][a-z0-9_]*$', step.name) -%}
            {%- do problems.append("step name '" ~ step.name ~ "' is no column name: use a-z, 0-9 and _") -%}
        {%- elif names[:loop.index0].count(step.name) -%}
            {%- do problems.append("two steps are named '" ~ step.name ~ "': a repeated step needs a name of its own") -%}
        {%- elif step.name ~ '_ts' in columns -%}
            {%- do problems.append("step '" ~ step.name ~ "' would make a second column " ~ step.name ~ '_ts') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if exclude and mode == 'strict' -%}
        {%- do problems.append('exclude has no meaning in mode strict, where nothing may lie between steps') -%}
    {%- endif -%}
    {%- for rule in exclude -%}
        {%- set after, before = rule.after | default(names | first), rule.before | default(names | last) -%}
        {%- if not rule.where -%}
            {%- do problems.append('exclusion ' ~ loop.index ~ ' needs a where') -%}
        {%- elif mode == 'unordered' and (rule.after or rule.before) -%}
            {%- do problems.append('after and before of an exclusion have no meaning in mode unordered') -%}
        {%- elif after not in names or before not in names or names.index(after) >= names.index(before) -%}
            {%- do problems.append("no step lies from '" ~ after ~ "' to '" ~ before ~ "'; steps are " ~ names | join(', ')) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if problems -%}{{- exceptions.raise_compiler_error('funnel: ' ~ problems | join('; ') ~ '.') -}}{%- endif -%}
{%- endmacro %}
