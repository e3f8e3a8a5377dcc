/**
 * The tracer in a page: page views, each exactly once, whether loaded, routed to, restored or prerendered.
 *
 * Belongs here: what ties the tracer to window and history. Does not belong here: clicks (`autocapture.ts`).
 */
import { capture } from "./autocapture.js";
import { refer } from "./platform.browser.js";
import { decide, flush, hear, land, leave, start, track } from "./tracer.js";
import type { Config, Payload } from "./types.js";

let seen: string | undefined; // URL of the latest page view, without fragment
const here = () => location.href.split("#")[0]!;

const activated = () => {
  page();
};

/** A page view. In a prerendered page, when the visitor gets to see it. */
export const page = (payload?: Payload): string | undefined => {
  if ((document as { prerendering?: boolean }).prerendering) {
    addEventListener("prerenderingchange", activated, true);
    return;
  }
  if (seen) refer(seen);
  seen = here();
  land(location.search);
  return track("page_view", payload);
};

const routed = () => {
  if (seen != here()) page();
};

export const init = (config: Config) => {
  start(config);
  capture();
  addEventListener("storage", ({ key }) => hear(key));
  addEventListener("online", flush);
  addEventListener("visibilitychange", flush);
  addEventListener("pagehide", ({ persisted }) => leave(!persisted));
  addEventListener("pageshow", ({ persisted }) => {
    if (!persisted) return;
    decide();
    if (config.autoPage != false) page();
  });
  if (config.autoPage == false) return;
  const push = history.pushState;
  history.pushState = (...args) => {
    push.apply(history, args);
    routed();
  };
  addEventListener("popstate", routed);
  page();
};
