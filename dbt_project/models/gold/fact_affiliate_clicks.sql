with clicks as (
    select
        event_id,
        ts,
        session_id,
        user_id_hash,
        affiliate_link_id,
        affiliate_target,
        payout_cents,
        ab_variant,
        geo_country,
        page_view_id,
        click_id,
        affiliate_network,
        affiliate_position,
        affiliate_context,
        event_dt
    from {{ ref('int_sessionized_events') }}
    where event_type = 'affiliate_click'
    union all
    select
        event_id,
        ts,
        cast(null as varchar) as session_id,
        user_id_hash,
        affiliate_link_id,
        affiliate_target,
        payout_cents,
        ab_variant,
        geo_country,
        page_view_id,
        click_id,
        affiliate_network,
        affiliate_position,
        affiliate_context,
        event_dt
    from {{ source('scope', 'events') }}
    where event_type = 'affiliate_click' and session_key is null
)

select * from clicks
where event_dt in (select event_dt from {{ source('scope', 'days') }})
