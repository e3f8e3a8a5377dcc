-- Rows of gold.dim_campaign from {campaign_daily}.
select
    md5(concat(channel, chr(10), source, chr(10), medium, chr(10), campaign, chr(10))) as campaign_key,
    channel,
    source,
    medium,
    campaign,
    campaign <> '(not set)' as is_tagged,
    min(event_dt) as first_seen_dt,
    max(event_dt) as last_seen_dt,
    cast(sum(visits) as bigint) as visits
from {campaign_daily}
group by channel, source, medium, campaign
