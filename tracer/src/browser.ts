/** The public functions of the tracer in a browser. */
export { onDrop } from "./config.js";
export { init, page } from "./page.js";
export { affiliateClick, chart, consent, flush, identify, track } from "./tracer.js";
export type * from "./types.js";
