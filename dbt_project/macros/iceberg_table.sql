{#- Computes the model into `staged.<schema>__<name>` and has the plugin merge that into the Iceberg table. -#}
{% materialization iceberg_table, adapter='duckdb' %}
    {%- set staged = api.Relation.create(
        database=this.database, schema='staged', identifier=this.schema ~ '__' ~ this.identifier, type='table'
    ) -%}

    {{ run_hooks(pre_hooks) }}

    {% call statement('main') -%}
        create or replace table {{ staged }} as (
            {{ compiled_code }}
        )
    {%- endcall %}

    {{ adapter.commit() }}

    {% do adapter.store_relation('lake', staged, [], '', 'iceberg', config) %}

    {{ run_hooks(post_hooks) }}

    {{ return({'relations': [this.incorporate(type='view')]}) }}
{% endmaterialization %}
