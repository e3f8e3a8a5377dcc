/**
 * What a page or program says to the tracer, and what it hears back.
 *
 * Belongs here: the public types. The event's own type is generated (`event.ts`). Does not belong here: behaviour.
 */
import type { ChartEvent } from "./event.js";

export type { ChartEvent };
export type EventType = ChartEvent["event_type"];
export type Action = NonNullable<NonNullable<ChartEvent["chart"]>["action"]>;
export type Campaign = NonNullable<NonNullable<NonNullable<ChartEvent["session"]>["utm"]>>;

/** What a caller may add to an event; identity and time are the tracer's. */
export type Payload = Partial<Omit<ChartEvent, "event_type" | "event_id" | "ts" | "seq" | "sent_at" | "schema_version">>;

/** The visitor's choice. Without `analytics` nothing is kept or sent. */
export interface Consent {
  analytics: boolean;
  ads?: boolean | null;
}

/**
 * Why an event will not be delivered: refused by the collector (`rejected`), no consent or Global Privacy Control
 * (`consent`), too many waiting (`queue_full`), waited longer than a week (`expired`), nowhere to keep it when the page
 * went away (`storage`), or the whole request was refused with that status (`http_400`, `http_401`, `http_403`,
 * `http_413`, `http_415`).
 */
export type DropReason = "rejected" | "consent" | "queue_full" | "expired" | "storage" | `http_${number}`;

export type OnDrop = (reason: DropReason, count: number, eventIds: string[]) => void;

export interface Config {
  /** Base URL of the collector, without a trailing slash. */
  collector: string;
  writeKey: string;
  /** The choice as long as the visitor has made none by `consent()`. Absent: unknown, events wait in memory. */
  consent?: Consent | undefined;
  /** Variant of the experiment the visitor sees; default: the first `data-chart-variant` of the page. */
  variant?: string | undefined;
  /** false: page views are sent by `page()` alone. */
  autoPage?: boolean | undefined;
  /** How long events wait for company, ms; default 500. */
  delay?: number | undefined;
  onDrop?: OnDrop | undefined;
}

export interface Interaction {
  action: Action;
  controlId?: string | undefined;
  controlValue?: string | number | boolean | null | undefined;
  productIds?: string[] | undefined;
}

export interface Link {
  linkId: string;
  target?: string | undefined;
  /** Place on the chart, from 1 at the top. */
  position?: number | undefined;
}

/** In Node. */
export interface NodeConfig extends Config {
  /** Folder that keeps undelivered events for the next start; without it only memory does. One process a folder. */
  folder?: string | undefined;
  /** true: the process is one visitor, as in a desktop or mobile app, and its events belong to visits. */
  visits?: boolean | undefined;
}
