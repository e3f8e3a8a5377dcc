-- The events of the days to make and of the days around, so that visits over midnight are whole. A visit that lasts longer
-- than two days is cut where the platform, which follows it to its end, may cut elsewhere.
{{ config(schema='scope', alias='events') }}

with keyed as (
    select
        coalesce(replace(session_id, '#', '##'), '#:' || replace(user_id_hash, '#', '##')) as session_key,
        {{ scope_event_columns()[1:] | join(',\n        ') }}
    from {{ source('silver', 'events') }}
    where
        event_dt between date_add('day', -2, date '{{ var("from_day", "2026-01-01") }}')
        and date_add('day', 2, date '{{ var("to_day", "2026-01-01") }}')
)

select * from keyed
