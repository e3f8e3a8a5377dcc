-- The funnel of each day: as a whole, by each dimension, and by each dimension and experiment variant.
{{ funnel_cuts(
    ['event_dt'],
    alone=['segment', 'geo_country', 'device', 'channel', 'ab_variant'],
    pairs=[['segment', 'ab_variant'], ['geo_country', 'ab_variant'], ['device', 'ab_variant'], ['channel', 'ab_variant']],
) }}
