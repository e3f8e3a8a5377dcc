/** The global that the script defines. */
import type * as browser from "../../src/browser.js";

export type Tracer = typeof browser;
