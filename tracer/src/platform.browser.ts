/**
 * What surrounds the tracer in a browser. `platform.node.ts` has the same names; the build chooses (`#platform`).
 *
 * Belongs here: access to what only a browser has. Does not belong here: when anything happens (`page.ts`).
 */
import { config } from "./config.js";
import { cleanUrl } from "./text.js";
import type { ChartEvent, Config, Payload } from "./types.js";

let from = document.referrer;

/** The next page view comes from `url`. */
export const refer = (url: string) => {
  from = url;
};

/** Throws where the browser denies storage. */
export const storageOf = (_: Config): Storage | undefined => localStorage;

/** Undefined in old browsers and insecure contexts. */
export const locks: LockManager | undefined = navigator.locks;

/** When this page goes away, be it into the back/forward cache, where a lock that others wait for would end it. */
export const gone = () => new Promise((resolve) => addEventListener("pagehide", resolve));

/** Global Privacy Control. */
export const denied = (navigator as { globalPrivacyControl?: boolean }).globalPrivacyControl;

/** Events belong to visits of one visitor. */
export const visits = true;

export const context = (): Payload["ctx"] => ({
  page_url: cleanUrl(location.href),
  referrer: cleanUrl(from),
  locale: navigator.language,
  ab_variant: config.variant ?? document.querySelector<HTMLElement>("[data-chart-variant]")?.dataset.chartVariant,
});

/** False if the browser refuses, as it does beyond 64 KB. */
export const beacon = (url: string, body: string) => navigator.sendBeacon(url, body);

/**
 * The links of the page follow the visit; without consent they know of none. Loaded by pages that have such links, from
 * the collector: a script of another origin has no place that a relative address could start from.
 */
export const decided = (url?: string, event?: ChartEvent) => {
  if (document.querySelector("[data-chart-link]"))
    import(config.collector + "/links.js").then(({ renewLinks }) => renewLinks(url, event)).catch(() => {});
};
