{#- True iff the URL's path has the configured segment (setting CHART_COMPARISON_PATH_SEGMENT). Query and fragment don't count. -#}
{% macro is_comparison_page(url) -%}
    {{ has_part(
        "regexp_extract(" ~ url ~ ", '^(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#]*)?([^?#]*)', 1)", '/', comparison_path_segment()
    ) }}
{%- endmacro %}
