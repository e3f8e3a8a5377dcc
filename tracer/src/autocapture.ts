/**
 * Instruments a page by its `data-chart-*` attributes.
 *
 * Belongs here: from DOM events to the tracer's calls. Does not belong here: what an attribute-free page does.
 */
import { config } from "./config.js";
import { affiliateClick, chart } from "./tracer.js";
import type { Action } from "./types.js";

const act = ({ type, target, button }: MouseEvent) => {
  const element = (target as Element).closest<HTMLInputElement & HTMLAnchorElement>("[data-chart-action],[data-chart-link]");
  const data = element?.dataset;
  if (data?.chartLink) {
    // The middle button opens a link too (auxclick), the right one does not. The redirect counts its own clicks.
    if (button < 2 && !element!.href.startsWith(config.collector + "/go/"))
      affiliateClick({ linkId: data.chartLink, target: element!.href, position: +data.chartPosition! || undefined });
  } else if (data && type == (element!.matches("input,select,textarea") ? "change" : "click"))
    chart({
      action: data.chartAction as Action,
      controlId: data.chartControl || element!.id,
      controlValue: data.chartValue ?? (element!.type == "checkbox" ? element!.checked : element!.value),
      productIds: element!.closest<HTMLElement>("[data-chart-products]")?.dataset.chartProducts?.split(","),
    });
};

export const capture = () => {
  for (const type of ["click", "auxclick", "change"]) addEventListener(type, act as EventListener, true);
};
