-- How pages and charts were used, by day.
{{ engagement() }}
