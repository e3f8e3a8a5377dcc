// The review of one product.

import { h, logo } from "./dom.js";
import { cell, price, rating, verdict, visit } from "./parts.js";
import { FEATURES, MORE_FEATURES, PRODUCTS } from "./products.js";
import { collector } from "./tracing.js";

const PLANS = [
  ["trial", "Trial", () => "Free for 14 days", "See whether you get along with it."],
  ["basic", "Basic", (one) => `$${(one.yearly * 0.6).toFixed(2)}/mo`, "A site of your own, with a small budget."],
  ["premium", "Premium", (one) => `$${one.yearly.toFixed(2)}/mo`, "All features, and the support that we rated."],
];

export function reviewView(one) {
  const others = PRODUCTS.filter((other) => other !== one && other.uses.some((use) => one.uses.includes(use))).slice(0, 3);
  return h("article", { class: "wide review" },
    h("p", { class: "crumbs" }, h("a", { href: "/compare/website-builders", "data-route": true }, "Website builders"), " / ", one.name),
    h("header", {}, logo(one, "logo large"),
      h("div", {}, h("h1", {}, `${one.name} review`), h("p", { class: "lead" }, `${one.tagline}. We rate it ${one.score.toFixed(1)} of 5 for ${one.uses.join(", ").toLowerCase()}.`),
        h("div", { class: "facts" }, rating(one), price(one, true))),
      visit(one, { place: "top", position: 1, collector })),
    h("section", { class: "verdict", "aria-label": "Verdict" }, verdict(one)),
    h("h2", {}, "Plans"),
    h("div", { class: "plans" }, PLANS.map(([plan, title, cost, about], index) =>
      h("div", { class: plan === "premium" ? "plan first" : "plan" }, h("h3", {}, title), h("p", { class: "price" }, h("b", {}, cost(one))), h("p", {}, about),
        visit(one, { plan, place: "table", position: index + 1, collector, label: `Get ${title}`, quiet: plan !== "premium" })))),
    h("h2", {}, "What it has"),
    h("dl", { class: "has" }, [...FEATURES, ...MORE_FEATURES].map(([key, label]) => h("div", {}, h("dt", {}, label), h("dd", {}, cell(one.features[key]))))),
    h("h2", {}, "Compare with"),
    h("ul", { class: "others" }, others.map((other) => h("li", {}, h("a", { href: `/reviews/${other.id}`, "data-route": true }, logo(other), h("span", {}, h("b", {}, other.name), h("small", {}, other.tagline)))))));
}
