/** The size gate: what a page downloads, gzip -9. Fails above the budget. */
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const BUDGET = { "tracer.js": 3072, "index.js": 3072, "links.js": 614 };
let failed = false;
for (const [name, budget] of Object.entries(BUDGET)) {
  const bytes = gzipSync(readFileSync(new URL(`../dist/${name}`, import.meta.url)), { level: 9 }).length;
  failed ||= bytes > budget;
  console.log(`dist/${name}: ${bytes} of ${budget} bytes, gzip -9${bytes > budget ? " — too large" : ""}`);
}
process.exit(failed ? 1 : 0);
