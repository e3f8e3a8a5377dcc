// What is compared: invented products, the same twelve that the simulator's visitors look at. Prices in US dollars.

const FEATURES = [
  ["domain", "Free domain"],
  ["shop", "Online shop"],
  ["ai", "AI assistant"],
  ["templates", "Templates"],
  ["storage", "Storage"],
  ["support", "Support"],
];

const MORE_FEATURES = [
  ["seo", "SEO tools"],
  ["export", "Code export"],
  ["members", "Members’ area"],
  ["languages", "Multilingual"],
];

const USE_CASES = ["Small business", "Online shop", "Portfolio", "Blog", "Landing page"];

function product(id, name, tagline, score, reviews, monthly, yearly, free, uses, features, more, scores, pros, cons) {
  const [domain, shop, ai, templates, storage, support] = features;
  const [seo, exportable, members, languages] = more;
  const [ease, design, power, help, value] = scores;
  return Object.freeze({
    id, name, tagline, score, reviews, monthly, yearly, free, uses, pros, cons,
    features: { domain, shop, ai, templates, storage, support, seo, export: exportable, members, languages },
    scores: { "Ease of use": ease, Design: design, Features: power, Support: help, Value: value },
  });
}

const PRODUCTS = [
  product("sitesmith", "Sitesmith", "The all-rounder that rarely gets in your way", 4.8, 18_420, 19, 14, false,
    ["Small business", "Blog", "Portfolio"],
    [true, true, true, 900, "50 GB", "24/7 chat"], [true, false, true, true], [4.9, 4.7, 4.7, 4.8, 4.6],
    ["Editor that a beginner masters in an afternoon", "Every plan has a domain and e-mail", "Support answers in under two minutes"],
    ["No code export", "Shop needs the Premium plan for more than 50 products"]),
  product("storefrontly", "Storefrontly", "A serious shop from the first day", 4.7, 12_870, 39, 29, false,
    ["Online shop", "Small business"],
    [true, true, true, 180, "Unlimited", "24/7 phone"], [true, false, true, true], [4.3, 4.5, 4.9, 4.8, 4.3],
    ["Inventory, taxes and shipping built in", "Sells on eleven marketplaces", "No transaction fees"],
    ["Dear for a simple site", "Themes worth having cost extra"]),
  product("webloom", "Webloom", "Freehand design without the code", 4.6, 9_310, 23, 18, true,
    ["Portfolio", "Landing page"],
    [false, true, true, 1_400, "20 GB", "Chat"], [true, true, true, true], [4.0, 4.9, 4.8, 4.2, 4.4],
    ["Pixel-exact layouts and motion", "Clean code export", "Free until you go live"],
    ["Takes a week to feel at home", "Phone support only for agencies"]),
  product("shopkite", "Shopkite", "The quickest way to sell ten things", 4.5, 15_040, 29, 22, false,
    ["Online shop"],
    [true, true, true, 120, "100 GB", "24/7 chat"], [true, false, false, true], [4.7, 4.3, 4.6, 4.6, 4.2],
    ["Open for orders in half an hour", "Best checkout of the test", "Point of sale included"],
    ["2 % fee with other payment providers", "Blog is an afterthought"]),
  product("pagecraft", "Pagecraft", "Beautiful by default", 4.5, 11_260, 17, 12, false,
    ["Portfolio", "Small business", "Blog"],
    [true, true, false, 210, "30 GB", "E-mail"], [true, false, true, false], [4.6, 4.9, 4.2, 4.1, 4.5],
    ["Templates that look designed for you", "Excellent image handling", "Fair yearly price"],
    ["No assistant", "Support by e-mail alone"]),
  product("launchpad-one", "Launchpad One", "Everything a campaign needs", 4.4, 6_720, 32, 25, false,
    ["Landing page", "Small business"],
    [true, false, true, 340, "25 GB", "Chat"], [true, true, false, true], [4.4, 4.3, 4.6, 4.4, 4.0],
    ["A/B tests in the editor", "Pages load in under a second", "Forms connect to any CRM"],
    ["No shop", "Priced for marketing teams"]),
  product("tilekit", "Tilekit", "Blocks that always fit", 4.3, 8_150, 14, 10, true,
    ["Small business", "Blog"],
    [false, true, false, 480, "10 GB", "Chat"], [true, false, false, true], [4.8, 4.0, 4.0, 4.2, 4.5],
    ["Impossible to build something ugly", "Generous free plan", "Good on phones"],
    ["Little freedom in layouts", "Ads on the free plan"]),
  product("gridnest", "Gridnest", "For people who like order", 4.2, 5_480, 16, 12, true,
    ["Portfolio", "Small business"],
    [true, false, false, 260, "15 GB", "E-mail"], [true, true, true, false], [4.3, 4.4, 4.1, 3.9, 4.3],
    ["A grid system that designers respect", "Code export", "Members’ area on every plan"],
    ["No shop", "Slow support at weekends"]),
  product("foliohub", "Foliohub", "A home for your best work", 4.2, 7_930, 12, 9, true,
    ["Portfolio"],
    [false, false, false, 95, "Unlimited", "E-mail"], [false, false, true, false], [4.6, 4.8, 3.6, 4.0, 4.6],
    ["Unlimited full-size images", "Client galleries with passwords", "Cheapest with storage"],
    ["Nothing but portfolios", "Thin SEO tools"]),
  product("blogyard", "Blogyard", "Writing first", 4.1, 21_600, 8, 6, true,
    ["Blog"],
    [true, false, true, 60, "5 GB", "Community"], [true, true, true, true], [4.7, 3.9, 3.8, 3.7, 4.8],
    ["The best editor for text", "Newsletter built in", "Export everything, any time"],
    ["Few layouts", "Help comes from the forum"]),
  product("onepager", "Onepager", "One page, done well", 4.0, 4_310, 7, 5, true,
    ["Landing page", "Portfolio"],
    [false, false, true, 150, "1 GB", "E-mail"], [false, true, false, false], [4.9, 4.1, 3.2, 3.8, 4.7],
    ["Live in ten minutes", "Costs less than a coffee a month", "Loads instantly"],
    ["One page is the limit", "No statistics of its own"]),
  product("quickdraft", "Quickdraft", "An assistant that writes the first version", 3.9, 3_890, 11, 8, true,
    ["Landing page", "Small business"],
    [false, false, true, 40, "5 GB", "Chat"], [true, false, false, true], [4.8, 3.6, 3.4, 3.9, 4.2],
    ["A usable draft from three sentences", "Rewrites for six languages", "Free plan without ads"],
    ["Drafts look alike", "Little control beyond the draft"]),
];

const byId = new Map(PRODUCTS.map((one) => [one.id, one]));

export { FEATURES, MORE_FEATURES, PRODUCTS, USE_CASES, byId };
