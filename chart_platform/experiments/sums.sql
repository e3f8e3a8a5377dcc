-- What each day of `ranges` adds to the sums of each experiment and variant: of every visitor who did
-- something, came or crossed over on it, the state after the day less the state before it.
with active as (
    select d.experiment_key, d.user_id_hash
    from {visitor_days} as d
    semi join ranges as r on d.experiment_key = r.experiment_key and d.event_dt between r.low and r.high
    union
    select x.experiment_key, x.user_id_hash
    from {exposures} as x
    semi join ranges as r
        on x.experiment_key = r.experiment_key and cast(x.crossover_ts as date) between r.low and r.high
),

visitors as (
    select x.experiment_key, x.user_id_hash, x.variant, x.event_dt as first_day, cast(x.crossover_ts as date) as crossover_day
    from {exposures} as x
    semi join active as a on x.experiment_key = a.experiment_key and x.user_id_hash = a.user_id_hash
),

steps as (
    select d.experiment_key, d.user_id_hash, d.event_dt, {counts}
    from {visitor_days} as d
    semi join active as a on d.experiment_key = a.experiment_key and d.user_id_hash = a.user_id_hash
    union all
    select experiment_key, user_id_hash, crossover_day, {zeros}
    from visitors
    where crossover_day is not null
),

days as (
    select experiment_key, user_id_hash, event_dt, {summed}
    from steps
    group by experiment_key, user_id_hash, event_dt
),

running as (
    select
        v.experiment_key,
        v.variant,
        d.event_dt,
        d.event_dt < coalesce(v.crossover_day, date 'infinity') as is_in_after,
        d.event_dt > v.first_day and d.event_dt <= coalesce(v.crossover_day, date 'infinity') as is_in_before,
        d.event_dt = v.crossover_day as crosses,
        {before},
        {after}
    from days as d
    inner join visitors as v on d.experiment_key = v.experiment_key and d.user_id_hash = v.user_id_hash
    window upto as (partition by v.experiment_key, v.user_id_hash order by d.event_dt)
),

changes as (
    from running as s
    semi join ranges as r on s.experiment_key = r.experiment_key and s.event_dt between r.low and r.high
)

select experiment_key, variant, event_dt, 1 as sign, false as crosses, {after_names} from changes where is_in_after
union all
select experiment_key, variant, event_dt, -1 as sign, false as crosses, {before_names} from changes where is_in_before
union all
select experiment_key, variant, event_dt, 0 as sign, true as crosses, {zeros} from changes where crosses
