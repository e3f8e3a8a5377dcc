/**
 * What the page told the tracer, and the one way to tell the page that an event will not be delivered.
 *
 * Belongs here: the settings as given. Does not belong here: anything learned while running.
 */
import type { Config, DropReason, OnDrop } from "./types.js";

export const config: Partial<Config> = {};

/** `listener` hears of every drop from now on. */
export const onDrop = (listener: OnDrop) => {
  config.onDrop = listener;
};

export const lost = (reason: DropReason, ids: string[]) => config.onDrop?.(reason, ids.length, ids);
