{#- The segments that the visitor of each visit was in when it began, sorted; visits without any have no row. -#}
{% macro segments_at_start(visits) -%}
    select
        visits.session_id,
        visits.session_start_ts,
        {{ in_order('user_segments.segment_key') }} as segments
    from {{ visits }} as visits
    inner join {{ ref('user_segments') }} as user_segments
        on
            visits.user_id_hash = user_segments.user_id_hash
            and visits.session_start_ts >= user_segments.valid_from
            and visits.session_start_ts < coalesce(user_segments.valid_to, {{ end_of_time() }})
    group by visits.session_id, visits.session_start_ts
{%- endmacro %}
