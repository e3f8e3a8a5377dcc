/**
 * What to send, and what an answer means for each event of a request.
 *
 * Belongs here: the protocol with the collector, as pure functions. Does not belong here: when to send.
 */
import type { DropReason } from "./types.js";

/** false: delivered; a reason: lost for good; undefined: still to be delivered. */
export type Fate = DropReason | false | undefined;

const FATES: Record<string, Fate> = { accepted: false, duplicate: false, rejected: "rejected", discarded: "consent" };
const FINAL = [400, 401, 403, 415];
const LONGEST_BACKOFF_MS = 60_000;
const LONGEST_WAIT_MS = 86_400_000;

/** Only the envelope differs between attempts. */
export const envelope = (texts: string[]) => `{"sent_at":"${new Date().toISOString()}","events":[${texts}]}`;

/** The fate of one of `count` events, by the status of the answer and, if that is 202, of its `result`. */
export const fateOf = (status: number, result: { status: string } | undefined, count: number): Fate =>
  status == 202
    ? FATES[result?.status as string]
    : FINAL.includes(status) || (status == 413 && count == 1)
      ? `http_${status}`
      : undefined;

/** Full jitter: anywhere between now and a bound that doubles with each failure, ms. */
export const backoff = (failures: number) => Math.random() * Math.min(LONGEST_BACKOFF_MS, 1000 * 2 ** failures);

/** A Retry-After header in ms, a day at most; 0 without one, or if it is a date instead of seconds. */
export const retryAfter = (header: string | null) => Math.min(LONGEST_WAIT_MS, 1000 * +header! || 0);
