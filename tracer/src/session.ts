/**
 * Which visit an event belongs to.
 *
 * Belongs here: the rule, as a pure function. Does not belong here: where the visit is kept, or the lock around it.
 */
import { timeOf } from "./ids.js";
import type { Campaign } from "./types.js";

const IDLE_MS = 30 * 60_000;
const LONGEST_MS = 24 * 3_600_000;

/** A visit as every tab of the origin, and every version of this package, reads it from storage. Times are epoch ms. */
export interface Session {
  /** The id of its first event. */
  id: string;
  start: number;
  last: number;
  /** Number of the latest event, from 0. */
  seq: number;
  utm?: Campaign | undefined;
}

/** The visit after the event `id`: a new one iff more than 30 min passed since the last event, or 24 h since the first. */
export const advance = (visit: Session | null | undefined, id: string, utm?: Campaign): Session => {
  const ts = timeOf(id);
  return visit && ts - visit.last <= IDLE_MS && ts - visit.start <= LONGEST_MS
    ? { ...visit, last: Math.max(visit.last, ts), seq: visit.seq + 1, utm: utm || visit.utm }
    : { id, start: ts, last: ts, seq: 0, utm };
};
