/** The public functions of the tracer in Node: servers, and the backends of desktop and mobile apps. */
import { flush, leave, rest, start, track } from "./tracer.js";
import type { NodeConfig, Payload } from "./types.js";

export { onDrop } from "./config.js";
export { affiliateClick, chart, consent, flush, identify, track } from "./tracer.js";
export type * from "./types.js";

export const init = (config: NodeConfig) => start(config);

export const page = (payload?: Payload) => track("page_view", payload);

/** A last attempt to send; then what is not in the folder is dropped (`storage`), and nothing keeps the process alive. */
export const close = async () => {
  await flush();
  leave(true);
  rest();
};
