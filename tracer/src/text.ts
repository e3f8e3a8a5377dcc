/**
 * Text that may leave the page: well-formed JSON, and URLs without personal data.
 *
 * Belongs here: pure functions on strings. Does not belong here: what an event is made of.
 */
import type { Campaign } from "./types.js";

const PERSONAL = /mail|phone|pass|token|secret|auth|ssn|iban|name$|^(api_?)?key$/i;
const ADDRESS = /[^\s/?&=]+(@|%40)[^\s/?&=]+/g;
const LONE_SURROGATE = /\p{Cs}/gu;

/** JSON in which no string has an e-mail address, nor a lone surrogate (`toWellFormed`), which no UTF-8 can carry. */
export const toJson = (value: unknown): string =>
  JSON.stringify(value, (_, item: unknown) =>
    typeof item == "string" ? item.replace(LONE_SURROGATE, "\ufffd").replace(ADDRESS, "[redacted]") : item,
  );

/**
 * `text` without fragment, user info, and query parameters whose name tells of a person or a secret.
 * Undefined for what is no absolute URL.
 */
export const cleanUrl = (text: string): string | undefined => {
  try {
    const url = new URL(text);
    url.hash = url.username = url.password = "";
    for (const name of [...url.searchParams.keys()]) if (PERSONAL.test(name)) url.searchParams.delete(name);
    return url.href;
  } catch {
    return;
  }
};

/** The `utm_*` parameters of a query, or undefined if it has none. */
export const campaignOf = (query: string): Campaign | undefined => {
  let found: Record<string, string> | undefined;
  for (const [name, value] of new URLSearchParams(query))
    if (name.startsWith("utm_")) found = { ...found, [name.slice(4)]: value };
  return found;
};
