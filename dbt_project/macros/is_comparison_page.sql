{#- True iff the URL's path has the configured segment (setting CHART_COMPARISON_PATH_SEGMENT). Query and fragment don't count.
    Only a URL that has its letters somewhere is taken apart, which costs most of it. -#}
{% macro is_comparison_page(url) -%}
    case
        when strpos({{ url }}, {{ comparison_path_segment() }}) > 0 then {{ has_part(
            "regexp_extract(" ~ url ~ ", '^(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#]*)?([^?#]*)', 1)", '/', comparison_path_segment()
        ) }}
        else false
    end
{%- endmacro %}
