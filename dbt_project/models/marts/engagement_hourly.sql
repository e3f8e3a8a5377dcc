-- How pages and charts were used, by hour.
{{ engagement(hourly=true) }}
