-- silver.events rows of the bronze rows in {bronze}, one a message (not yet deduplicated).
select
    event_id,
    event_type,
    ts,
    ingest_ts,
    nullif(session.session_id, '') as session_id,
    nullif("user".user_id_hash, '') as user_id_hash,
    nullif("user".geo_country, '') as geo_country,
    nullif(ctx.page_url, '') as page_url,
    nullif(ctx.referrer, '') as referrer,
    nullif(ctx.locale, '') as locale,
    nullif(ctx.user_agent, '') as user_agent,
    nullif(ctx.ab_variant, '') as ab_variant,
    nullif(chart."action", '') as chart_action,
    nullif(chart.control_id, '') as chart_control_id,
    nullif(chart.control_value, '') as chart_control_value,
    list_filter(chart.product_ids, lambda product: product <> '') as product_ids,
    nullif(affiliate.link_id, '') as affiliate_link_id,
    nullif(affiliate.target, '') as affiliate_target,
    affiliate.payout_cents as payout_cents,
    nullif(source, '') as source,
    nullif(schema_version, '') as schema_version,
    nullif(privacy.source_ip_anonymized, '') as source_ip_anonymized,
    cast(ts as date) as event_dt,
    strftime(ts, '%H') as event_hour
from {bronze} as bronze
where {scope}
