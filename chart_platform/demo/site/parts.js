// Pieces that the comparison and the reviews share.

import { dollars, h, icon, logo } from "./dom.js";

export function stars(score) {
  return h("span", { class: "stars", "--share": `${(score / 5) * 100}%`, role: "img", "aria-label": `${score} of 5` });
}

export const rating = (product) =>
  h("span", { class: "rating" }, h("b", {}, product.score.toFixed(1)), stars(product.score),
    h("small", {}, `${product.reviews.toLocaleString("en")} reviews`));

export function price(product, yearly) {
  const amount = yearly ? product.yearly : product.monthly;
  return h("span", { class: "price" }, h("b", {}, dollars(amount)), h("small", {}, "/mo"),
    yearly && h("small", { class: "saved" }, `save ${Math.round((1 - product.yearly / product.monthly) * 100)}%`));
}

/** A link through the redirect. The tracer signs its address; until then, and without consent, it works unsigned. */
export function visit(product, { plan = "premium", place, position, collector, label = `Visit ${product.name}`, quiet = false }) {
  const link = `${product.id}-${plan}-${place}`;
  return h("a", {
    class: quiet ? "button quiet" : "button", href: `${collector}/go/${link}`, target: "_blank",
    rel: "noopener sponsored nofollow", "data-chart-link": link, "data-chart-position": position,
  }, label, icon("out"));
}

export const reviewLink = (product, ...children) =>
  h("a", { href: `/reviews/${product.id}`, "data-route": true, class: "name" }, ...(children.length ? children : [product.name]));

export const heading = (product, badge) =>
  h("div", { class: "who" }, logo(product),
    h("div", {}, h("span", { class: "line" }, reviewLink(product), badge && h("span", { class: "badge" }, badge)), h("small", {}, product.tagline)));

export function cell(value) {
  if (value === true) return h("span", { class: "yes" }, icon("yes"), h("span", { class: "hidden" }, "yes"));
  if (value === false) return h("span", { class: "no" }, icon("no"), h("span", { class: "hidden" }, "no"));
  return typeof value === "number" ? value.toLocaleString("en") : value;
}

export function verdict(product) {
  return [
    h("div", { class: "scores" }, Object.entries(product.scores).map(([name, score]) =>
      h("div", { class: "score" }, h("span", {}, name), h("meter", { min: 0, max: 5, low: 3.5, high: 4.2, optimum: 5, value: score, "aria-label": `${name}: ${score} of 5` }), h("b", {}, score.toFixed(1))))),
    h("div", { class: "points" },
      h("ul", { class: "pros", "aria-label": "Good" }, product.pros.map((text) => h("li", {}, icon("yes"), text))),
      h("ul", { class: "cons", "aria-label": "Less good" }, product.cons.map((text) => h("li", {}, icon("no"), text)))),
  ];
}
