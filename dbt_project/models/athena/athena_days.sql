-- The days to make: variables `from_day` and `to_day`, inclusive.
{{ config(schema='scope', alias='days') }}

select cast(day as date) as event_dt
from {{ days_between(var('from_day', '2026-01-01'), var('to_day', '2026-01-01')) }}
