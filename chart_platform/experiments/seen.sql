-- When each visitor of the events in {events} first saw each variant of each experiment, within the experiment's window.
-- An experiment key may bring its variant along (`key:variant`); else the event's ab_variant is that of all its keys.
-- A variant without experiment keys is that of the experiment '{page}'.
with named as (
    select
        user_id_hash,
        ts,
        ab_variant,
        unnest(case when len(experiment_keys) > 0 then experiment_keys else ['{page}'] end) as name
    from {events} as events
    where user_id_hash is not null and (ab_variant is not null or len(experiment_keys) > 0)
),

told as (
    select
        user_id_hash,
        ts,
        split_part(name, ':', 1) as experiment_key,
        coalesce(case when contains(name, ':') then nullif(substr(name, position(':' in name) + 1), '') end, ab_variant) as variant
    from named
)

select told.experiment_key, told.user_id_hash, told.variant, min(told.ts) as first_ts
from told
left join windows on told.experiment_key = windows.experiment_key
where
    told.experiment_key <> ''
    and told.variant is not null
    and told.ts >= coalesce(windows.start_ts, told.ts)
    and (windows.end_ts is null or told.ts < windows.end_ts)
group by told.experiment_key, told.user_id_hash, told.variant
