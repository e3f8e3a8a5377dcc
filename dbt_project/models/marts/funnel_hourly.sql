-- The funnel of each hour in which visits began: as a whole and by device, channel and experiment variant.
{{ funnel_cuts(['event_dt', 'hour_ts'], alone=['device', 'channel', 'ab_variant']) }}
