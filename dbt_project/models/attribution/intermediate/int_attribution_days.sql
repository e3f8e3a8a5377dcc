{{ config(schema='intermediate', materialized='table') }}

-- Days whose conversions are divided again: those that the run was given, and those whose weights have changed.
{%- set columns = 'model, channel, weight_ppb, event_dt' %}
with old_weights as (
    select {{ columns }} from {{ source('attribution_scope', 'old_weights') }}
),

new_weights as (
    select {{ columns }} from {{ ref('attribution_weights') }}
    where event_dt in (select event_dt from {{ source('attribution_scope', 'weight_days') }})
),

changed as (
    (select {{ columns }} from old_weights except select {{ columns }} from new_weights)
    union all
    (select {{ columns }} from new_weights except select {{ columns }} from old_weights)
)

select event_dt from {{ source('attribution_scope', 'fact_days') }}
union
select event_dt from changed
