// The experiment: which of two layouts this visitor sees. A is a table, B are cards with larger buttons.

const KEY = "builderchart.variant";
const VARIANTS = ["A", "B"];

/** `?variant=` for whoever looks, else what was drawn before, else a draw. */
export function assigned() {
  const asked = new URLSearchParams(location.search).get("variant")?.toUpperCase();
  if (VARIANTS.includes(asked)) return asked;
  try {
    const kept = localStorage.getItem(KEY);
    if (VARIANTS.includes(kept)) return kept;
  } catch {
    // Storage is denied: drawn for this page.
  }
  return VARIANTS[crypto.getRandomValues(new Uint8Array(1))[0] % 2];
}

/** Stick to it from now on, or forget it: without consent nothing is kept. */
export function remember(variant, allowed) {
  try {
    if (allowed) localStorage.setItem(KEY, variant);
    else localStorage.removeItem(KEY);
  } catch {
    // Storage is denied.
  }
}
