{#- Computes the model into `staged.<schema>__<name>`, holds its columns against the model's contract and has the plugin
    merge it into the Iceberg table. What only renames columns is better staged as a view (config `staged`), what groups
    events slice by slice (config `sliced`, macros/slices.sql). -#}
{% materialization iceberg_table, adapter='duckdb' %}
    {%- set staged = api.Relation.create(
        database=this.database, schema='staged', identifier=this.schema ~ '__' ~ this.identifier, type='table'
    ) -%}
    {%- set kind = config.get('staged', default='table') -%}

    {{ run_hooks(pre_hooks) }}

    {% call statement('main') -%}
        {%- if config.get('sliced') -%}
            {{ made_in_slices(staged, compiled_code) }}
        {%- else -%}
            create or replace {{ kind }} {{ staged }} as (
                {{ compiled_code }}
            )
        {%- endif -%}
    {%- endcall %}

    {{ adapter.commit() }}

    {% if config.get('contract').enforced %}
        {% do get_assert_columns_equivalent('select * from ' ~ staged) %}
    {% endif %}

    {% do adapter.store_relation('lake', staged, [], '', 'iceberg', config) %}
    {% call statement('free_memory') -%}
        drop {{ kind }} {{ staged }}
    {%- endcall %}

    {{ run_hooks(post_hooks) }}

    {{ return({'relations': [this.incorporate(type='view')]}) }}
{% endmaterialization %}


{#- On Athena: the days of the variables `from_day` to `to_day` are deleted and inserted anew, two commits. -#}
{% materialization iceberg_table, adapter='athena' %}
    {%- set day = config.get('meta', {}).get('day_column') -%}
    {% if load_relation(this) is not none %}
        {% call statement('delete_days') -%}
            delete from {{ this }}
            {%- if day %}
            where {{ day }} between date '{{ var("from_day") }}' and date '{{ var("to_day") }}'
            {%- endif %}
        {%- endcall %}
    {% endif %}
    {{ return(dbt_athena.materialization_incremental_athena()) }}
{% endmaterialization %}
