-- What visits and funnel need of the first message of each event.
select
    event_id,
    event_type,
    ts,
    nullif(session.session_id, '') as session_id,
    nullif("user".user_id_hash, '') as user_id_hash,
    nullif("user".geo_country, '') as geo_country,
    nullif(ctx.page_url, '') as page_url,
    nullif(ctx.ab_variant, '') as ab_variant,
    nullif(affiliate.target, '') as affiliate_target,
    affiliate.payout_cents as payout_cents
from {bronze} as bronze
qualify row_number() over (partition by event_id, ts::date order by ingest_ts, ts) = 1
