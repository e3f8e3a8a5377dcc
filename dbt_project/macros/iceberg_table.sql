{#- Computes the model into `staged.<schema>__<name>` and has the plugin merge that into the Iceberg table. What only
    renames columns is better staged as a view (config `staged`). -#}
{% materialization iceberg_table, adapter='duckdb' %}
    {%- set staged = api.Relation.create(
        database=this.database, schema='staged', identifier=this.schema ~ '__' ~ this.identifier, type='table'
    ) -%}
    {%- set kind = config.get('staged', default='table') -%}

    {{ run_hooks(pre_hooks) }}

    {% call statement('main') -%}
        create or replace {{ kind }} {{ staged }} as (
            {{ compiled_code }}
        )
    {%- endcall %}

    {{ adapter.commit() }}

    {% do adapter.store_relation('lake', staged, [], '', 'iceberg', config) %}

    {{ run_hooks(post_hooks) }}

    {{ return({'relations': [this.incorporate(type='view')]}) }}
{% endmaterialization %}
