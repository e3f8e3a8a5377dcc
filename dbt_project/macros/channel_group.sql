{#- Where a visit came from, by the published rules of Google Analytics 4.

        channel_group(source, medium, campaign, referrer, page_url)     'Paid Search', never null
        traffic_source(source, medium, campaign, referrer, page_url)    'google', '(direct)', '(not set)'
        traffic_medium(source, medium, campaign, referrer, page_url)    'cpc', '(none)', '(not set)'

    Each is one SQL expression. Arguments are SQL expressions too, any of them may be null: the visit's first
    utm_source, utm_medium, utm_campaign, the referrer of its first event that has one, and the URL of its first page.
    Case and surrounding blanks don't matter. They run on DuckDB and Athena alike.

    Rules and their order: "[GA4] Default channel group", https://support.google.com/analytics/answer/9756891, part
    "Channels for manual traffic"; AI Assistant: "What's new in Google Analytics" of 13 May 2026,
    https://support.google.com/analytics/answer/9164320#05132026. GA4's parts for linked Google Ads, Display & Video 360
    and Search Ads 360 accounts need what only those accounts know. The lists of sites are ours: `source_categories`.

    Without utm_source, utm_medium and utm_campaign the source is
        google / cpc                if the page's URL has a click id of Google Ads (gclid, gbraid, wbraid),
        (direct) / (none)           without a referrer, or with one of the page's own host,
        <host> / organic            if the referrer is a search engine,
        <host> / ai-assistant       if it is an AI assistant,
        <host> / referral           otherwise.
    With any of the three the referrer says nothing; what lacks is (not set). But links that assistants tag with their
    name only (chatgpt.com does) keep medium ai-assistant. -#}
{% macro channel_group(source, medium, campaign, referrer, page_url) -%}
    (
        {%- set paid = "(medium like '%cp%' or medium in ('ppc', 'retargeting') or medium like 'paid%')" -%}
        {#- GA4's regex ^(.*(([^a-df-z]|^)shop|shopping).*)$ -#}
        {%- set shopping = "(category = 'shopping' or " ~ _matches('campaign', '([^a-df-z]|^)shop|shopping') ~ ")" %}
        select
            case
                when source = '(direct)' and medium in ('(not set)', '(none)') then 'Direct'
                when campaign like '%cross-network%' then 'Cross-network'
                when {{ shopping }} and {{ paid }} then 'Paid Shopping'
                when category = 'search' and {{ paid }} then 'Paid Search'
                when category = 'social' and {{ paid }} then 'Paid Social'
                when category = 'video' and {{ paid }} then 'Paid Video'
                when medium in ('display', 'banner', 'expandable', 'interstitial', 'cpm') then 'Display'
                when {{ paid }} then 'Paid Other'
                when {{ shopping }} then 'Organic Shopping'
                when
                    category = 'social'
                    or medium in ('social', 'social-network', 'social-media', 'sm', 'social network', 'social media')
                    then 'Organic Social'
                when category = 'video' or medium like '%video%' then 'Organic Video'
                when category = 'search' or medium = 'organic' then 'Organic Search'
                when medium = 'ai-assistant' then 'AI Assistant'
                when medium in ('referral', 'app', 'link') then 'Referral'
                when
                    source in ('email', 'e-mail', 'e_mail', 'e mail') or medium in ('email', 'e-mail', 'e_mail', 'e mail')
                    then 'Email'
                when medium = 'affiliate' then 'Affiliates'
                when medium = 'audio' then 'Audio'
                when source = 'sms' or medium = 'sms' then 'SMS'
                when
                    medium like '%push' or medium like '%mobile%' or medium like '%notification%' or source = 'firebase'
                    then 'Mobile Push Notifications'
                else 'Unassigned'
            end
        from {{ _traffic(source, medium, campaign, referrer, page_url) }}
    )
{%- endmacro %}

{% macro traffic_source(source, medium, campaign, referrer, page_url) -%}
    (select source from {{ _traffic(source, medium, campaign, referrer, page_url) }})
{%- endmacro %}

{% macro traffic_medium(source, medium, campaign, referrer, page_url) -%}
    (select medium from {{ _traffic(source, medium, campaign, referrer, page_url) }})
{%- endmacro %}

{#- One row: source, medium, campaign, all lower case and not null, and the category of the source. Each argument stands
    in it once, in a query without tables, so that an engine can compute it once for each distinct set of arguments. -#}
{% macro _traffic(source, medium, campaign, referrer, page_url) -%}
    (
        select
            source,
            case
                when medium <> '' then medium
                when category = 'ai' then 'ai-assistant'
                when tagged then '(not set)'
                when source = '(direct)' then '(none)'
                when category = 'search' then 'organic'
                else 'referral'
            end as medium,
            campaign,
            category
        from (
            select *, {{ _source_category('source') }} as category
            from (
                select
                    tagged,
                    case
                        when tagged then coalesce(nullif(source, ''), '(not set)')
                        when google_ads then 'google'
                        when referring_host = '' or referring_host = page_host then '(direct)'
                        else referring_host
                    end as source,
                    case when google_ads and not tagged then 'cpc' else medium end as medium,
                    campaign
                from (
                    select
                        source,
                        medium,
                        campaign,
                        source <> '' or medium <> '' or campaign <> '' as tagged,
                        {{ _host('referrer') }} as referring_host,
                        {{ _host('page_url') }} as page_host,
                        {{ _matches('page_url', '[?&](?:gclid|gbraid|wbraid)=[^&#]') }} as google_ads
                    from (
                        select
                            lower(trim(coalesce({{ source }}, ''))),
                            lower(trim(coalesce({{ medium }}, ''))),
                            lower(trim(coalesce({{ campaign }}, ''))),
                            lower(coalesce({{ referrer }}, '')),
                            lower(coalesce({{ page_url }}, ''))
                    ) as given (source, medium, campaign, referrer, page_url)
                ) as hosts
            ) as sources
        ) as categories
    )
{%- endmacro %}

{#- Host of a lower-case URL without `www.` and port; '' if there is none. -#}
{% macro _host(url) -%}
    coalesce(regexp_extract({{ url }}, '^[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?(?:www[.])?([^/?#:]+)', 1), '')
{%- endmacro %}

{% macro _source_category(source) -%}
    case
        {%- for category, entries in source_categories().items() %}
        {%- set names, hosts, brands = [], [], [] %}
        {%- for entry in entries %}
            {%- if entry.endswith('.*') %}{% do brands.append(entry[:-2]) %}
            {%- elif '.' in entry %}{% do hosts.append(entry.replace('.', '[.]')) %}
            {%- else %}{% do names.append(entry) %}
            {%- endif %}
        {%- endfor %}
        {%- set tails = hosts + ['(?:' ~ brands | join('|') ~ ')(?:[.](?:(?:co|com|net|org|ne|or)[.])?[a-z][a-z]+)?'] if brands else hosts %}
        {%- set patterns = ['(?:^|[.])(?:' ~ tails | join('|') ~ ')$'] + (['^(?:' ~ names | join('|') ~ ')$'] if names else []) %}
        when {{ _matches(source, patterns | join('|')) }} then '{{ category }}'
        {%- endfor %}
    end
{%- endmacro %}

{#- Whether a part of the text matches the regular expression. -#}
{% macro _matches(text, pattern) -%}
    {{ adapter.dispatch('matches_regex')(text, pattern) }}
{%- endmacro %}

{% macro default__matches_regex(text, pattern) -%}
    regexp_like({{ text }}, '{{ pattern }}')
{%- endmacro %}

{% macro duckdb__matches_regex(text, pattern) -%}
    regexp_matches({{ text }}, '{{ pattern }}')
{%- endmacro %}
