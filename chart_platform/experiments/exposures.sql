-- gold.experiment_exposures of the visitors in `old`, as far as these exposures still count, and `fresh`. A visitor's first variant and the first other one are all that later events can change.
with sights as (
    select experiment_key, user_id_hash, variant, first_ts from fresh
    union all
    select experiment_key, user_id_hash, variant, first_exposure_ts from old where not is_anew
    union all
    select experiment_key, user_id_hash, crossover_variant, crossover_ts from old where not is_anew and crossover_ts is not null
),

firsts as (
    select experiment_key, user_id_hash, variant, min(first_ts) as first_ts
    from sights
    group by experiment_key, user_id_hash, variant
),

ordered as (
    select experiment_key, user_id_hash, list({{'ts': first_ts, 'variant': variant}} order by first_ts, variant) as seen
    from firsts
    group by experiment_key, user_id_hash
),

-- The visit of the exposure; of several at once, which one visitor may have in two windows, the one that began last.
visits as (
    select
        o.experiment_key,
        o.user_id_hash,
        arg_max(
            {{'device': s.device, 'geo_country': s.geo_country, 'channel': s.channel}},
            {{'start': s.session_start_ts, 'id': s.session_id}}
        ) as at_exposure
    from ordered as o
    inner join {sessions} as s
        on o.user_id_hash = s.user_id_hash and o.seen[1].ts between s.session_start_ts and s.session_end_ts
    group by o.experiment_key, o.user_id_hash
)

select
    o.experiment_key,
    o.user_id_hash,
    o.seen[1].variant as variant,
    o.seen[1].ts as first_exposure_ts,
    o.seen[2].ts as crossover_ts,
    o.seen[2].variant as crossover_variant,
    v.at_exposure.device as device,
    v.at_exposure.geo_country as geo_country,
    v.at_exposure.channel as channel,
    cast(o.seen[1].ts as date) as event_dt
from ordered as o
left join visits as v on o.experiment_key = v.experiment_key and o.user_id_hash = v.user_id_hash
