with visits as (
    select
        session_id,
        user_id_hash,
        session_start_ts,
        comparison_views > 0 as saw_comparison,
        chart_interactions > 0 as interacted_chart,
        affiliate_clicks > 0 as clicked_affiliate,
        affiliate_target,
        payout_cents,
        ab_variant,
        geo_country,
        device,
        channel,
        comparison_ts,
        interaction_ts,
        click_ts,
        event_dt
    from {{ ref('int_visits') }}
    union all
    select
        funnel.session_id,
        funnel.user_id_hash,
        funnel.session_start_ts,
        funnel.saw_comparison,
        funnel.interacted_chart,
        funnel.clicked_affiliate,
        funnel.affiliate_target,
        funnel.payout_cents,
        funnel.ab_variant,
        funnel.geo_country,
        funnel.device,
        funnel.channel,
        funnel.comparison_ts,
        funnel.interaction_ts,
        funnel.click_ts,
        funnel.event_dt
    from {{ this }} as funnel
    {{ semi_join(ref('int_resegmented_visits'), 'resegmented', 'funnel', ['session_id', 'session_start_ts']) }}
),

memberships as (
    {{ segments_at_start('visits') }}
)

select
    visits.session_id,
    visits.user_id_hash,
    visits.session_start_ts,
    visits.saw_comparison,
    visits.interacted_chart,
    visits.clicked_affiliate,
    visits.affiliate_target,
    cast(visits.payout_cents as bigint) as payout_cents,
    coalesce(memberships.segments, {{ no_texts() }}) as segments,
    visits.ab_variant,
    visits.geo_country,
    visits.device,
    visits.channel,
    visits.comparison_ts,
    visits.interaction_ts,
    visits.click_ts,
    visits.event_dt
from visits
left join memberships
    on visits.session_id = memberships.session_id and visits.session_start_ts = memberships.session_start_ts
