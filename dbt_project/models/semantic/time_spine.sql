-- Every day that metrics may be asked for. On DuckDB the analysts' file has it as a view (chart_platform.serving.publish).
{{ config(schema='semantic', materialized='table' if target.type == 'athena' else 'view') }}

select cast(day as date) as date_day
from {{ days_between('2020-01-01', '2039-12-31') }}
