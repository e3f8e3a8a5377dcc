-- SCD2 rows of every visitor that this run judges: what stands of the old ones and the days judged anew, in one piece
-- where they touch.
{% if target.type == 'athena' -%}
-- Rules are judged by the platform.
select
    user_id_hash,
    segment_key,
    as_of_ts,
    valid_from,
    valid_to
from {{ source('platform_silver', 'user_segments') }}
{% else -%}
with untouched as (
    select
        user_id_hash,
        coalesce(lag(last_on) over (partition by user_id_hash order by first_on) + 1, date '0001-01-01') as first_on,
        first_on - 1 as last_on
    from {{ source('scope', 'judged') }}
    union all
    select
        user_id_hash,
        max(last_on) + 1 as first_on,
        date '9999-12-31' as last_on
    from {{ source('scope', 'judged') }}
    group by user_id_hash
),

-- A row without an end goes on to the horizon: whom a new day could change is judged for it.
standing as (
    select
        old.user_id_hash,
        old.segment_key,
        greatest(cast(old.valid_from as date), untouched.first_on) as first_on,
        least(coalesce(cast(old.valid_to as date) - 1, horizon.horizon), untouched.last_on) as last_on
    from {{ source('scope', 'old_segments') }} as old
    cross join {{ source('scope', 'horizon') }} as horizon
    inner join untouched on old.user_id_hash = untouched.user_id_hash
),

member_days as (
    select
        user_id_hash,
        segment_key,
        evaluated_on,
        evaluated_on - cast(
            row_number() over (partition by user_id_hash, segment_key order by evaluated_on) as integer
        ) as island
    from segment_members('{{ ref("int_segment_features").include(database=false) | replace('"', '') }}')
),

spans as (
    select
        user_id_hash,
        segment_key,
        first_on,
        last_on
    from standing
    where first_on <= last_on
    union all
    select
        user_id_hash,
        segment_key,
        min(evaluated_on) as first_on,
        max(evaluated_on) as last_on
    from member_days
    group by user_id_hash, segment_key, island
),

touching as (
    select
        *,
        coalesce(first_on > 1 + lag(last_on) over in_order, true) as begins
    from spans
    window in_order as (partition by user_id_hash, segment_key order by first_on)
),

memberships as (
    select
        *,
        count(*) filter (where begins) over (
            partition by user_id_hash, segment_key order by first_on rows between unbounded preceding and current row
        ) as membership
    from touching
)

select
    user_id_hash,
    segment_key,
    cast(min(first_on) as timestamp) as as_of_ts,
    cast(min(first_on) as timestamp) as valid_from,
    case
        when max(last_on) < (select horizon from {{ source('scope', 'horizon') }})
            then cast(max(last_on) + 1 as timestamp)
    end as valid_to
from memberships
group by user_id_hash, segment_key, membership
{% endif %}
