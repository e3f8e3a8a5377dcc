-- What visits and funnel need of the first message of each event.
select
    event_id,
    event_type,
    ts,
    nullif(session.session_id, '') as session_id,
    nullif("user".user_id_hash, '') as user_id_hash,
    nullif("user".geo_country, '') as geo_country,
    nullif(ctx.device, '') as device,
    nullif(ctx.browser, '') as browser,
    nullif(ctx.os, '') as os,
    nullif(ctx.page_url, '') as page_url,
    nullif(ctx.referrer, '') as referrer,
    nullif(session.utm.source, '') as utm_source,
    nullif(session.utm.medium, '') as utm_medium,
    nullif(session.utm.campaign, '') as utm_campaign,
    nullif(session.utm.term, '') as utm_term,
    nullif(session.utm.content, '') as utm_content,
    nullif(chart."action", '') as chart_action,
    nullif(chart.control_id, '') as chart_control_id,
    nullif(chart.control_value, '') as chart_control_value,
    nullif(ctx.ab_variant, '') as ab_variant,
    nullif(affiliate.target, '') as affiliate_target,
    affiliate.payout_cents as payout_cents
from {bronze} as bronze
qualify row_number() over (partition by event_id, ts::date order by ingest_ts, ts) = 1
