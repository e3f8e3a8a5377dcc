// The comparison: its controls, and the chart as a table (variant A) or as cards (variant B).
//
// Every control says in data-chart-* attributes what using it will do, so that the tracer can report it without code.

import { dollars, h, icon } from "./dom.js";
import { cell, heading, price, rating, reviewLink, verdict, visit } from "./parts.js";
import { FEATURES, MORE_FEATURES, PRODUCTS, USE_CASES, byId } from "./products.js";
import { collector, renewLinks } from "./tracing.js";

const PICKS = [["sitesmith", "Best overall"], ["storefrontly", "Best for shops"], ["blogyard", "Best for free"]];
const BADGES = new Map(PICKS);
const ORDERS = {
  "editor-rating": { label: "Rating", first: "desc", of: (one) => one.score },
  "plan-price": { label: "Price", first: "asc", of: (one, yearly) => (yearly ? one.yearly : one.monthly) },
  popularity: { label: "Popularity", first: "desc", of: (one) => one.reviews },
};
const DEAREST = 40;

// Outlives the view: back from a review, the chart is as it was left.
const state = {
  yearly: true, free: true, differences: false, sort: "editor-rating", direction: "desc",
  most: DEAREST, least: 0, use: "", allFeatures: false, open: new Set(),
};

export function compareView(variant) {
  const links = keptLinks();
  const chart = h("div", { class: "chart" });
  const count = h("output", { class: "count", "aria-live": "polite" });
  const bar = h("div", { class: "bar" });
  const toggles = h("div", { class: "switches" });
  const draw = () => {
    const shown = matching();
    bar.replaceChildren(...controls());
    toggles.replaceChildren(...switches());
    count.textContent = `${shown.length} of ${PRODUCTS.length} builders`;
    chart.replaceChildren(shown.length ? (variant === "B" ? cards : table)(shown) : nothing());
  };
  const redraw = keepingFocus([bar, toggles, chart], draw);
  draw();
  return h("div", { class: "wide compare", "data-chart-variant": variant },
    h("section", { class: "hero" },
      h("p", { class: "crumbs" }, "Website builders"),
      h("h1", {}, "The best website builders, ", h("em", {}, "side by side")),
      h("p", { class: "lead" }, "We built the same shop, portfolio and blog with each of them, twelve times over. Here is what they cost, what they can do, and whom they suit."),
      h("p", { class: "byline" }, "Updated 14 November 2026 · Links marked with ", icon("out"), " may earn us a commission; it never moves a rating.")),
    picks(),
    h("section", { "aria-label": "Comparison" }, bar, h("div", { class: "counted" }, count, toggles), chart));

  function picks() {
    return h("section", { class: "picks", "aria-label": "Our picks" }, PICKS.map(([id, title], index) => {
      const one = byId.get(id);
      return h("article", { class: index === 0 ? "pick first" : "pick" },
        h("p", { class: "title" }, icon("star"), title), heading(one),
        h("div", { class: "facts" }, rating(one), h("span", { class: "price" }, "from ", h("b", {}, one.free ? "$0" : dollars(one.yearly)), h("small", {}, "/mo"))),
        links.to(one, { place: "top", position: index + 1, collector, plan: one.free ? "basic" : "premium", label: one.free ? `Start free with ${one.name}` : undefined }));
    }));
  }

  function controls() {
    return [
      h("fieldset", {}, h("legend", {}, "Billing"), h("div", { class: "segments" }, [[false, "Monthly"], [true, "Yearly"]].map(([yearly, label]) =>
        h("button", { type: "button", id: `billing-${label.toLowerCase()}`, "aria-pressed": String(state.yearly === yearly), ...acts("toggle", "billing-yearly", yearly, state.yearly === yearly), onclick: () => redraw({ yearly }) },
          label, yearly && h("small", {}, "−25%"))))),
      h("fieldset", {}, h("legend", {}, "Sort by"), h("div", { class: "segments" }, Object.entries(ORDERS).map(([key, { label, first }]) => {
        const on = state.sort === key;
        const next = on ? (state.direction === "asc" ? "desc" : "asc") : first;
        return h("button", { type: "button", id: `sort-${key}`, "aria-pressed": String(on), title: on ? "Turn the order round" : null, ...acts("sort", key, next), onclick: () => redraw({ sort: key, direction: next }) },
          label, on && h("span", { class: `direction ${state.direction}`, role: "img", "aria-label": state.direction === "asc" ? "ascending" : "descending" }));
      }))),
      h("label", { class: "field" }, h("span", {}, "Use case"),
        h("select", { id: "use-case", ...acts("filter", "use-case"), onchange: (event) => redraw({ use: event.target.value }) },
          h("option", { value: "", selected: !state.use }, "Any"), USE_CASES.map((use) => h("option", { value: use, selected: state.use === use }, use)))),
      h("label", { class: "field" }, h("span", {}, "Rating"),
        h("select", { id: "min-rating", ...acts("filter", "min-rating"), onchange: (event) => redraw({ least: Number(event.target.value) }) },
          [[0, "Any"], [4, "4.0 and up"], [4.3, "4.3 and up"], [4.5, "4.5 and up"]].map(([value, label]) => h("option", { value, selected: state.least === value }, label)))),
      h("label", { class: "field range" }, h("span", {}, "Up to ", h("output", {}, state.most === DEAREST ? "any price" : `${dollars(state.most)}/mo`)),
        h("input", { type: "range", id: "max-price", min: 5, max: DEAREST, step: 1, value: state.most, ...acts("filter", "max-price"),
          oninput: (event) => (event.target.previousElementSibling.lastElementChild.textContent = Number(event.target.value) === DEAREST ? "any price" : `${dollars(Number(event.target.value))}/mo`),
          onchange: (event) => redraw({ most: Number(event.target.value) }) })),
    ];
  }

  function switches() {
    return [
      h("label", { class: "switch" }, h("input", { type: "checkbox", role: "switch", id: "show-free-plans", checked: state.free, ...acts("toggle", "show-free-plans"), onchange: (event) => redraw({ free: event.target.checked }) }), "Free plans"),
      h("label", { class: "switch" }, h("input", { type: "checkbox", role: "switch", id: "highlight", checked: state.differences, ...acts("toggle", "highlight"), onchange: (event) => redraw({ differences: event.target.checked }) }), "Highlight differences"),
    ];
  }

  function nothing() {
    return h("div", { class: "empty" }, h("p", {}, "No builder is like that."),
      h("button", { type: "button", class: "button quiet", ...acts("filter", "all", null), onclick: () => redraw({ most: DEAREST, least: 0, use: "", free: true }) }, "Clear the filters"));
  }

  function table(shown) {
    const features = state.allFeatures ? [...FEATURES, ...MORE_FEATURES] : FEATURES;
    const differing = new Set(features.map(([key]) => key).filter((key) => new Set(shown.map((one) => one.features[key])).size > 1));
    const mark = (key, value) => (state.differences ? (differing.has(key) ? (value === false ? "lacks" : "has") : "same") : null);
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison table" },
      h("table", {},
        h("thead", {}, h("tr", {},
          h("th", { scope: "col" }, h("span", { class: "hidden" }, "Place")), h("th", { scope: "col" }, "Builder"),
          h("th", { scope: "col" }, "Rating"), h("th", { scope: "col" }, "Price"),
          features.map(([, label]) => h("th", { scope: "col", class: "feature" }, label)),
          h("th", { scope: "col" }, h("span", { class: "hidden" }, "Links")))),
        h("tbody", {}, shown.map((one, index) => {
          const open = state.open.has(one.id);
          return [
            h("tr", { class: open ? "open" : null, "data-product": one.id },
              h("td", { class: "place" }, index + 1),
              h("th", { scope: "row" }, heading(one, BADGES.get(one.id)), h("span", { class: "line" }, detailsButton(one, open), one.free && state.free && h("span", { class: "tag" }, "Free plan"))),
              h("td", {}, rating(one)), h("td", {}, price(one, state.yearly)),
              features.map(([key]) => h("td", { class: ["feature", mark(key, one.features[key])].filter(Boolean).join(" ") }, cell(one.features[key]))),
              h("td", { class: "go" }, links.to(one, { place: "table", position: index + 1, collector, label: "Visit site" }), reviewLink(one, "Read review"))),
            open && h("tr", { class: "detail", id: `detail-${one.id}` }, h("td", { colspan: features.length + 5 }, h("div", { class: "verdict" }, verdict(one)))),
          ];
        }))),
      moreButton());
  }

  function cards(shown) {
    return h("div", {}, h("div", { class: "cards" }, shown.map((one, index) => {
      const open = state.open.has(one.id);
      const features = state.allFeatures ? [...FEATURES, ...MORE_FEATURES] : FEATURES;
      return h("article", { class: "card", "data-product": one.id },
        h("header", {}, h("span", { class: "place" }, index + 1), heading(one, BADGES.get(one.id))),
        h("div", { class: "facts" }, rating(one), price(one, state.yearly)),
        links.to(one, { place: "table", position: index + 1, collector, label: one.free && state.free ? "Start for free" : `Try ${one.name}` }),
        h("dl", {}, features.map(([key, label]) => h("div", { class: state.differences ? (one.features[key] === false ? "lacks" : "has") : null }, h("dt", {}, label), h("dd", {}, cell(one.features[key]))))),
        h("div", { class: "line" }, detailsButton(one, open), reviewLink(one, "Read review")),
        open && h("div", { class: "verdict", id: `detail-${one.id}` }, verdict(one)));
    })), moreButton());
  }

  function detailsButton(one, open) {
    return h("button", { type: "button", class: "plain more", id: `expand-${one.id}`, "aria-expanded": String(open), "aria-controls": `detail-${one.id}`,
      ...acts(open ? "compare_collapse" : "compare_expand", "product-card", one.id), "data-chart-products": one.id,
      onclick: () => { open ? state.open.delete(one.id) : state.open.add(one.id); redraw({}); } },
      open ? "Less" : "Details", icon("chevron"));
  }

  function moreButton() {
    const on = state.allFeatures;
    return h("button", { type: "button", class: "plain more all", id: "feature-rows", "aria-expanded": String(on),
      ...acts(on ? "compare_collapse" : "compare_expand", "feature-rows", MORE_FEATURES.length), onclick: () => redraw({ allFeatures: !on }) },
      on ? "Fewer features" : `${MORE_FEATURES.length} more features`, icon("chevron"));
  }
}

/** Affiliate links by their id: drawn anew they stay the same elements, and so keep the address that was signed for them. */
function keptLinks() {
  const made = new Map();
  return {
    to(one, { label, ...how }) {
      const fresh = visit(one, { label, ...how });
      const kept = made.get(fresh.dataset.chartLink) ?? fresh;
      made.set(fresh.dataset.chartLink, kept);
      kept.dataset.chartPosition = how.position;
      if (kept !== fresh) kept.replaceChildren(...fresh.childNodes);
      return kept;
    },
  };
}

/** What using a control does. `value` is what it will be set to; form fields have it themselves. */
function acts(action, control, value, idle = false) {
  if (idle) return {};
  return { "data-chart-action": action, "data-chart-control": control, ...(value === undefined ? {} : { "data-chart-value": String(value) }) };
}

function matching() {
  const { of } = ORDERS[state.sort];
  const sign = state.direction === "asc" ? 1 : -1;
  return PRODUCTS.filter((one) =>
    one.score >= state.least && (state.yearly ? one.yearly : one.monthly) <= (state.most === DEAREST ? Infinity : state.most)
    && (!state.use || one.uses.includes(state.use)) && (state.free || !one.free),
  ).sort((a, b) => sign * (of(a, state.yearly) - of(b, state.yearly)) || b.score - a.score);
}

/** Change the state and draw anew; whoever had the focus has it again. */
function keepingFocus(parts, draw) {
  return (change) => {
    Object.assign(state, change);
    const focused = document.activeElement?.id;
    draw();
    const successor = focused && parts.map((part) => part.querySelector(`#${CSS.escape(focused)}`)).find(Boolean);
    successor?.focus({ preventScroll: true });
    renewLinks();
  };
}
