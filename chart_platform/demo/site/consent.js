// The visitor's choice: unknown until made, kept where only this site reads it, and open to change at any time.

import { h } from "./dom.js";
import { consent as tellTracer, denied } from "./tracing.js";

const KEY = "builderchart.consent";
const place = document.getElementById("consent");

export function choice() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Ask if nothing is known. With Global Privacy Control the answer is known to be no. */
export function begin(onChoice) {
  document.getElementById("choices").addEventListener("click", () => ask(onChoice, true));
  const made = choice();
  if (denied) return onChoice({ analytics: false, ads: false });
  if (made) {
    tellTracer(made);
    onChoice(made);
  } else ask(onChoice);
}

function decide(made, onChoice) {
  try {
    // A "no" is kept, too: asking again on every page would wear it down.
    localStorage.setItem(KEY, JSON.stringify(made));
  } catch {
    // Storage is denied: the choice holds for this page.
  }
  place.replaceChildren();
  tellTracer(made);
  onChoice(made);
}

function ask(onChoice, reopened = false) {
  const before = choice() ?? { analytics: false, ads: false };
  const box = (name, label, about) =>
    h("label", { class: "option" },
      h("input", { type: "checkbox", name, checked: Boolean(before[name]), disabled: denied }),
      h("span", {}, h("strong", {}, label), h("small", {}, about)));
  const form = h("form", { class: "choices", onsubmit: (event) => {
      event.preventDefault();
      const given = new FormData(event.currentTarget);
      decide({ analytics: given.has("analytics"), ads: given.has("ads") }, onChoice);
    } },
    box("analytics", "Analytics", "How this comparison is used: visits, filters and clicks, without your name or address."),
    box("ads", "Advertising", "Lets our partners know which of their campaigns brought you here."),
    h("div", { class: "actions" }, h("button", { class: "button quiet", type: "submit" }, "Save my choice")));
  const banner = h("section", { class: "consent", role: "dialog", "aria-labelledby": "consent-title", "aria-describedby": "consent-text", tabindex: "-1" },
    h("h2", { id: "consent-title" }, "May we count your visit?"),
    h("p", { id: "consent-text" },
      denied
        ? "Your browser sends Global Privacy Control: nothing is recorded here, whatever you choose."
        : "We’d like to know which comparisons help. Until you choose, nothing is stored or sent; you can change your mind at the bottom of each page."),
    h("details", { open: reopened }, h("summary", {}, "Choose in detail"), form),
    denied
      ? h("div", { class: "actions" }, h("button", { class: "button", type: "button", onclick: () => place.replaceChildren() }, "Close"))
      : h("div", { class: "actions" },
          h("button", { class: "button quiet", type: "button", id: "consent-no", onclick: () => decide({ analytics: false, ads: false }, onChoice) }, "Only what is necessary"),
          h("button", { class: "button", type: "button", id: "consent-yes", onclick: () => decide({ analytics: true, ads: true }, onChoice) }, "Accept all")));
  place.replaceChildren(banner);
  if (reopened) banner.focus();
}
