{#- Schemas are the lakehouse's namespaces. What Athena makes stands beside what the platform makes, under its own prefix. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ target.schema ~ '_' if target.type == 'athena' and custom_schema_name }}{{ custom_schema_name or target.schema }}
{%- endmacro %}
