// The site: which page is shown, and the start of everything else.

import * as consent from "./consent.js";
import { compareView } from "./compare.js";
import { byId } from "./products.js";
import { followEvents } from "./journey.js";
import { reviewView } from "./review.js";
import { denied, start } from "./tracing.js";
import { assigned, remember } from "./variant.js";

const main = document.getElementById("main");
const variant = assigned();
document.documentElement.dataset.chartVariant = variant;

function show(path, { arrived = false } = {}) {
  const [, section, name] = path.split("/");
  const product = section === "reviews" ? byId.get(name) : undefined;
  document.title = product ? `${product.name} review · Builderchart` : "Website builders compared · Builderchart";
  main.replaceChildren(product ? reviewView(product) : compareView(variant));
  for (const link of document.querySelectorAll(".top nav a")) {
    link.toggleAttribute("aria-current", link.pathname.split("/")[1] === section);
  }
  if (arrived) {
    // As a page load would: from the top, and read from its heading.
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-route]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (link.pathname === location.pathname) return scrollTo({ top: 0, behavior: "smooth" });
  // The title first: it belongs to the page that the tracer is about to see.
  history.pushState(null, "", link.pathname + location.search);
  show(link.pathname, { arrived: true });
});
addEventListener("popstate", () => show(location.pathname));

show(location.pathname);
const panel = followEvents({ variant, denied });
panel.tracer(start(variant));
consent.begin((choice) => {
  remember(variant, choice.analytics);
  panel.consent(choice);
});
