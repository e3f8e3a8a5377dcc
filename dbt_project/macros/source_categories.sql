{#- The sites and apps that bring visitors, by the category that the channel rules ask for. Curated here: add what your
    traffic shows. Three forms of entry, lower case:
        facebook.*      this name as utm_source, and every host of this name in any country's domain
        lnkd.in         this host and all hosts below it
        fb              this utm_source and nothing else
    The first category with an entry that fits is the source's: `other` stands first and takes hosts out of wider entries. -#}
{% macro source_categories() -%}
    {{ return({
        'other': [
            'accounts.google.com', 'admin.google.com', 'calendar.google.com', 'classroom.google.com', 'cloud.google.com',
            'docs.google.com', 'drive.google.com', 'groups.google.com', 'mail.google.com', 'meet.google.com', 'sites.google.com',
            'support.google.com', 'translate.google.com', 'play.google.com', 'com.google.android.gm', 'mail.yahoo.com',
            'finance.yahoo.com', 'mail.yahoo.co.jp', 'mail.aol.com', 'mail.yandex.ru', 'mail.163.com', 'mail.naver.com',
            'mail.gmx.net', 'aws.amazon.com', 'pay.amazon.com'
        ],
        'ai': [
            'chatgpt.*', 'openai.*', 'chat.openai.com', 'gemini.google.com', 'bard.google.com', 'gemini', 'claude.ai', 'claude',
            'anthropic.com', 'copilot.microsoft.com', 'copilot.cloud.microsoft', 'copilot.com', 'copilot', 'perplexity.*',
            'ai.perplexity.app.android', 'com.openai.chatgpt', 'grok.com', 'grok', 'x.ai', 'deepseek.*', 'meta.ai', 'chat.mistral.ai',
            'mistral', 'you.com', 'poe.com', 'phind.com', 'pi.ai', 'character.ai', 'kimi.com', 'chat.qwen.ai', 'doubao.com'
        ],
        'shopping': [
            'amazon.*', 'amzn.to', 'a.co', 'amazon-ads', 'com.amazon.mshop.android.shopping', 'ebay.*', 'ebay.us', 'etsy.*',
            'etsy.me', 'shopify.*', 'shop.app', 'shopping.google.com', 'google-shopping', 'googleshopping', 'igshopping',
            'shopping.yahoo.com', 'shopping.yahoo.co.jp', 'shopping.naver.com', 'alibaba.*', 'aliexpress.*', 'taobao.*', 'tmall.*',
            'jd.com', 'temu.*', 'shein.*', 'wish.com', 'walmart.*', 'target.com', 'bestbuy.*', 'costco.*', 'homedepot.*', 'lowes.*',
            'wayfair.*', 'newegg.*', 'overstock.*', 'mercadolibre.*', 'mercadolivre.*', 'flipkart.*', 'snapdeal.*', 'myntra.*',
            'meesho.*', 'rakuten.*', 'zalando.*', 'otto.de', 'kaufland.de', 'bol.com', 'coolblue.*', 'cdiscount.*', 'fnac.*',
            'allegro.pl', 'ozon.ru', 'wildberries.*', 'market.yandex.ru', 'emag.*', 'trendyol.*', 'hepsiburada.*', 'lazada.*',
            'shopee.*', 'tokopedia.*', 'coupang.*', 'gmarket.co.kr', 'noon.com', 'jumia.*', 'takealot.*', 'idealo.*', 'geizhals.*',
            'billiger.de', 'kelkoo.*', 'pricerunner.*', 'pricegrabber.*', 'pricespy.*', 'shopzilla.*', 'bizrate.*', 'skroutz.*',
            'heureka.*', 'ceneo.pl', 'trovaprezzi.it', 'ladenzeile.*', 'slickdeals.*', 'camelcamelcamel.com', 'vinted.*', 'poshmark.*',
            'depop.com', 'stockx.*'
        ],
        'video': [
            'youtube.*', 'youtu.be', 'yt', 'youtube-nocookie.com', 'com.google.android.youtube', 'vimeo.*', 'dailymotion.*',
            'dai.ly', 'twitch.*', 'rumble.com', 'odysee.*', 'bitchute.*', 'peertube.*', 'bilibili.*', 'b23.tv', 'youku.*',
            'iqiyi.*', 'iq.com', 'v.qq.com', 'niconico', 'nicovideo.jp', 'nico.ms', 'rutube.ru', 'kick.com', 'wistia.*', 'loom.com',
            'ted.com', 'netflix.*', 'hulu.*', 'disneyplus.*', 'primevideo.com', 'crunchyroll.*', 'veoh.*', 'metacafe.*',
            'vevo.*', 'brightcove.*', 'vidyard.*', 'nebula.tv', 'curiositystream.*', 'plex.tv', 'tubitv.com', 'pluto.tv', 'roku.*'
        ],
        'social': [
            'facebook.*', 'fb', 'fb.me', 'fb.com', 'facebook-ads', 'meta', 'com.facebook.katana', 'messenger.*', 'm.me',
            'instagram.*', 'ig', 'insta', 'com.instagram.android', 'threads.*', 'whatsapp.*', 'wa.me', 'twitter.*', 'x', 'x.com',
            't.co', 'com.twitter.android', 'linkedin.*', 'lnkd.in', 'com.linkedin.android', 'tiktok.*', 'tik-tok',
            'tiktok-ads', 'reddit.*', 'redd.it', 'com.reddit.frontpage', 'pinterest.*', 'pin.it', 'com.pinterest', 'snapchat.*',
            'snap', 'quora.*', 'tumblr.*', 'discord.*', 'discordapp.com', 'telegram.*', 't.me', 'org.telegram.messenger',
            'mastodon.*', 'mastodon.social', 'fosstodon.org', 'hachyderm.io', 'mstdn.social', 'bsky.app', 'bluesky', 'bsky',
            'nextdoor.*', 'medium.com', 'substack.com', 'news.ycombinator.com', 'hackernews', 'hn', 'producthunt.*',
            'slashdot.org', 'lobste.rs', 'indiehackers.*', 'stumbleupon.*', 'mix.com', 'digg.*', 'flipboard.*', 'getpocket.com',
            'meetup.*', 'xing.*', 'viadeo.*', 'vk.com', 'vk', 'vkontakte.*', 'ok.ru', 'odnoklassniki.*', 'weibo.*', 'wechat.*',
            'weixin.qq.com', 'qzone.qq.com', 'douban.*', 'zhihu.*', 'xiaohongshu.*', 'line.me', 'kakao.*', 'band.us', 'ameblo.jp',
            'hatena.ne.jp', 'mixi.jp', 'note.com', 'plurk.*', 'livejournal.*', 'blogger.*', 'blogspot.*', 'goodreads.*',
            'deviantart.*', 'flickr.*', 'behance.net', 'dribbble.com', 'stackoverflow.com', 'stackexchange.com', 'slideshare.*',
            'scribd.*', 'gab.com', 'gettr.com', 'truthsocial.com', 'parler.com', 'minds.com', 'yammer.*', 'linktr.ee',
            'hootsuite.*', 'ow.ly', 'buffer.com', 'sharechat.*', 'koo', 'tripadvisor.*', 'yelp.*', 'taringa.net', 'skyrock.com',
            'steamcommunity.com', 'lemmy.world', 'clubhouse.com', 'bere.al', 'lemon8-app.com', 'buymeacoffee.com', 'patreon.com'
        ],
        'search': [
            'google.*', 'com.google.android.googlequicksearchbox', 'googlequicksearchbox', 'adwords', 'google-ads',
            'bing.*', 'msn.*', 'yahoo.*', 'duckduckgo.*', 'ddg', 'ddg.gg', 'ecosia.*', 'qwant.*', 'startpage.*',
            'search.brave.com', 'kagi.*', 'mojeek.*', 'swisscows.*', 'presearch.*', 'metager.*', 'gibiru.*', 'neeva.*',
            'searx.*', 'leta.mullvad.net', 'baidu.*', 'sogou.*', 'so.com', '360.cn', 'm.sm.cn', 'yandex.*', 'ya.ru',
            'rambler.*', 'go.mail.ru', 'nova.rambler.ru', 'naver.*', 'daum.*', 'nate.com', 'coccoc.*', 'seznam.*',
            'centrum.cz', 'zoznam.sk', 'onet.*', 'szukacz.*', 'virgilio.*', 'libero.it', 'alice.it', 'sapo.pt', 'ekolay.net',
            'eniro.*', 'kvasir.*', 'startsiden.*', 'najdi.si', 'ukr.net', 'meta.ua', 'search.tut.by', 'goo.ne.jp',
            'auone.jp', 'search.biglobe.ne.jp', 'search.smt.docomo.ne.jp', 'aol.*', 'ask.*',
            'lycos.*', 'dogpile.*', 'webcrawler.*', 'info.com', 'excite.*', 'metacrawler.*', 'globo.com', 'terra.com.br',
            'search.xfinity.com', 'comcast.*', 'conduit.com', 'babylon.*', 'avg.com', 'search.avira.com', 'avira.*',
            'search.earthlink.net', 'gmx.*', 'suche.t-online.de', 'suche.web.de', 'fireball.de', 'lilo.org', 'petalsearch.*'
        ]
    }) }}
{%- endmacro %}
