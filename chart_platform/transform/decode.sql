-- One row a message of `chunk`: the columns of bronze.events but the day, and `fault`, the first thing that
-- from_json could not say (it turns what it can't read into null without an error).
with parsed as (
    select
        from_json(text, $structure) as e,
        row_index,
        extra,
        judged,
        kafka_partition,
        kafka_offset,
        kafka_ts
    from chunk
),

timed as (
    select
        *,
        date_trunc('milliseconds', timezone('UTC', try_cast(e.ts as timestamptz))) as ts,
        date_trunc('milliseconds', timezone('UTC', try_cast(e.sent_at as timestamptz))) as sent_at
    from parsed
),

-- RFC 3339 has the years 0000 to 9999, and an offset can lead out of them; Python's dates go from year 1.
bounded as (
    select
        * replace (if(sent_at between timestamp '0001-01-01' and timestamp '9999-12-31 23:59:59.999', sent_at, null) as sent_at)
    from timed
)

select
    e.schema_version as schema_version,
    e.event_type as event_type,
    e.event_id as event_id,
    ts,
    coalesce(e.ingest_ts, epoch_ms(kafka_ts)) as ingest_ts,
    e."source" as source,
    case
        when e.privacy is not null then {
            'analytics': coalesce(e.privacy.analytics, e."user".consent.analytics),
            'ads': coalesce(e.privacy.ads, e."user".consent.ads),
            'source_ip_anonymized': e.privacy.source_ip_anonymized,
            'gpc': e.privacy.gpc
        }
        when e."user".consent is not null then {
            'analytics': e."user".consent.analytics,
            'ads': e."user".consent.ads,
            'source_ip_anonymized': null,
            'gpc': null
        }
    end as privacy,
    {'user_id_hash': e."user".user_id_hash, 'geo_country': e."user".geo_country} as "user",
    e.session as session,
    e.ctx as ctx,
    e.chart as chart,
    e.affiliate as affiliate,
    e.metadata as metadata,
    sent_at,
    e.seq as seq,
    e.page_view_id as page_view_id,
    e.click_id as click_id,
    extra,
    kafka_partition,
    kafka_offset,
    kafka_ts,
    strftime(kafka_ts, '%H') as hour,
    row_index,
    case
        {patterns}
        when ts is null then 'undecodable'
        when e.sent_at is not null and sent_at is null then 'undecodable'
        {conditions}
        when ts >= kafka_ts + to_hours($max_future_hours) then 'ts_in_future'
        when ts < $first_day then 'ts_too_old'
    end as fault
from bounded
