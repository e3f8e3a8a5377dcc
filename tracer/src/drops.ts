/**
 * Every event that will not be delivered is told here, with its reason.
 *
 * Belongs here: who listens. Does not belong here: the decision to drop.
 */
import type { DropReason, OnDrop } from "./types.js";

let listener: OnDrop | undefined;

/** The latest listener hears of every drop from now on. */
export const onDrop = (next: OnDrop | undefined) => {
  listener = next || listener;
};

export const lost = (reason: DropReason, ids: string[]) => {
  listener?.(reason, ids.length, ids);
};
