-- SCD2 rows of every visitor that this run judges: the days that stand, the days judged anew, packed to intervals.
with old_days as (
    select
        old.user_id_hash,
        old.segment_key,
        unnest(generate_series(
            cast(old.valid_from as date),
            coalesce(cast(old.valid_to as date) - interval 1 day, horizon.horizon_before),
            interval 1 day
        ))::date as member_on
    from {{ source('scope', 'old_segments') }} as old
    cross join {{ source('scope', 'horizon') }} as horizon
),

member_days as (
    select
        old_days.user_id_hash,
        old_days.segment_key,
        old_days.member_on
    from old_days
    anti join {{ source('scope', 'evaluations') }} as evaluations
        on old_days.user_id_hash = evaluations.user_id_hash and old_days.member_on = evaluations.evaluated_on
    union
    select
        user_id_hash,
        segment_key,
        evaluated_on as member_on
    from segment_members('{{ ref("int_segment_features").include(database=false) | replace('"', '') }}')
),

islands as (
    select
        *,
        member_on - cast(row_number() over (partition by user_id_hash, segment_key order by member_on) as integer) as island
    from member_days
)

select
    user_id_hash,
    segment_key,
    cast(min(member_on) as timestamp) as as_of_ts,
    cast(min(member_on) as timestamp) as valid_from,
    case
        when max(member_on) < (select horizon from {{ source('scope', 'horizon') }})
            then cast(max(member_on) + interval 1 day as timestamp)
    end as valid_to
from islands
group by user_id_hash, segment_key, island
