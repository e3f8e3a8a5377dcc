/**
 * Signed redirect links: the collector vouches for the visit that follows a `[data-chart-link]` anchor.
 *
 * Belongs here: asking for and setting hrefs. Does not belong here: who may be asked for (consent is the tracer's).
 */
import type { ChartEvent } from "./event.js";
import { toJson } from "./text.js";

interface Signed {
  link_id: string;
  position: number;
  url: string;
}

let latest: string;

/** Asks `url` to sign the links for the visit of `event`, if anything changed; without, takes the visit out of them. */
export const renewLinks = async (url?: string, event?: ChartEvent) => {
  const anchors = [...document.querySelectorAll<HTMLAnchorElement>("a[data-chart-link]")];
  const links = anchors.map(({ dataset }, index) => ({
    link_id: dataset.chartLink,
    position: +(dataset.chartPosition || index + 1),
  }));
  const request = toJson({
    session_id: event?.session?.session_id,
    page_view_id: event?.page_view_id,
    ab_variant: event?.ctx?.ab_variant,
    ...event?.user,
    utm: event?.session?.utm,
    links,
  });
  if (latest == request) return;
  latest = request;
  if (!url) anchors.forEach((anchor) => (anchor.href = anchor.href.split("?c=")[0]!));
  else
    try {
      const answer = await fetch(url, { method: "POST", body: request, credentials: "omit" });
      for (const signed of (await answer.json()).links as Signed[])
        links.forEach(({ link_id, position }, index) => {
          if (link_id == signed.link_id && position == signed.position) anchors[index]!.href = signed.url;
        });
    } catch {
      // An unsigned link still redirects.
    }
};
