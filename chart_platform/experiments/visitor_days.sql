-- gold.experiment_visitor_days of `wanted`, which says of an experiment and visitor from when to when days are made.
-- `exposed` has the exposures of their visitors, and the end of each experiment.
with visits as (
    select
        s.user_id_hash,
        s.session_id,
        s.session_start_ts,
        s.session_end_ts,
        s.affiliate_clicks,
        s.chart_interactions,
        s.payout_cents,
        f.comparison_ts,
        f.click_ts,
        s.event_dt
    from {sessions} as s
    left join {funnel} as f
        on
            s.session_id = f.session_id
            and s.session_start_ts = f.session_start_ts
            and f.user_id_hash in (select user_id_hash from exposed)
    where s.user_id_hash in (select user_id_hash from exposed)
),

placed as (
    select
        x.experiment_key,
        x.first_exposure_ts,
        v.*,
        v.session_end_ts < x.first_exposure_ts as is_before,
        v.session_start_ts < x.first_exposure_ts and v.session_end_ts >= x.first_exposure_ts as is_entered,
        greatest(v.event_dt, x.event_dt) as counted_on
    from exposed as x
    inner join visits as v on x.user_id_hash = v.user_id_hash
    where
        (v.session_end_ts >= x.first_exposure_ts or v.session_start_ts >= x.first_exposure_ts - interval {pre_days} day)
        and (x.end_ts is null or v.session_start_ts < x.end_ts)
),

-- Visits during which the exposure came: what happened before it counts neither here nor there.
clicks_after as (
    select
        p.experiment_key,
        p.session_id,
        p.session_start_ts,
        count(*) as affiliate_clicks,
        sum(c.payout_cents) as payout_cents,
        min(c.ts) as click_ts
    from (select * from placed where is_entered) as p
    inner join {clicks} as c
        on
            p.session_id = c.session_id
            and c.ts between p.first_exposure_ts and p.session_end_ts
    group by p.experiment_key, p.session_id, p.session_start_ts
),

interactions_after as (
    select p.experiment_key, p.session_id, p.session_start_ts, count(*) as chart_interactions
    from (select * from placed where is_entered) as p
    inner join {interactions} as i
        on
            p.session_id = i.session_id
            and i.ts between p.first_exposure_ts and p.session_end_ts
    group by p.experiment_key, p.session_id, p.session_start_ts
),

counted as (
    select
        experiment_key,
        user_id_hash,
        counted_on,
        is_before,
        1 as visits,
        affiliate_clicks,
        chart_interactions,
        payout_cents,
        comparison_ts,
        click_ts
    from placed
    where not is_entered
    union all
    select
        p.experiment_key,
        p.user_id_hash,
        p.counted_on,
        false as is_before,
        1 as visits,
        coalesce(c.affiliate_clicks, 0) as affiliate_clicks,
        coalesce(i.chart_interactions, 0) as chart_interactions,
        coalesce(c.payout_cents, 0) as payout_cents,
        p.comparison_ts,
        c.click_ts
    from placed as p
    left join clicks_after as c
        on
            p.experiment_key = c.experiment_key
            and p.session_id = c.session_id
            and p.session_start_ts = c.session_start_ts
    left join interactions_after as i
        on
            p.experiment_key = i.experiment_key
            and p.session_id = i.session_id
            and p.session_start_ts = i.session_start_ts
    where p.is_entered
    union all
    -- The day of exposure has a row even without a visit that counts.
    select experiment_key, user_id_hash, event_dt, false, 0, 0, 0, 0, null, null
    from exposed
),

sides as (
    select
        experiment_key,
        user_id_hash,
        counted_on as event_dt,
        is_before,
        sum(visits) as sessions,
        count(*) filter (where affiliate_clicks > 0) as converted_sessions,
        sum(affiliate_clicks) as clicks,
        sum(payout_cents) as payout_cents,
        sum(chart_interactions) as chart_interactions,
        count(comparison_ts) as comparison_sessions,
        count(*) filter (where click_ts >= comparison_ts) as comparison_clicks
    from counted
    group by experiment_key, user_id_hash, counted_on, is_before
)

select s.experiment_key, s.user_id_hash, {counts}, s.event_dt
from sides as s
semi join wanted as w
    on s.experiment_key = w.experiment_key and s.user_id_hash = w.user_id_hash and s.event_dt between w.low and w.high
group by s.experiment_key, s.user_id_hash, s.event_dt
