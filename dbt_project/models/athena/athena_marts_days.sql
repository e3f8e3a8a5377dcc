-- The days to make, as the marts read them.
{{ config(schema='marts_scope', alias='days') }}

select event_dt from {{ ref('athena_days') }}
