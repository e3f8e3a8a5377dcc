/**
 * The script of the tracer for browsers: global `chart`, started by the attributes of its tag.
 *
 *     <script src="https://edge.example/tracer.js" data-write-key="wk_…" data-collector="https://edge.example"></script>
 */
import { onDrop } from "./config.js";
import { init, page } from "./page.js";
import type { Config } from "./types.js";
import { affiliateClick, chart, consent, flush, identify, track } from "./tracer.js";

(window as unknown as { chart: object }).chart = { init, page, track, chart, affiliateClick, identify, consent, flush, onDrop };
const settings = document.currentScript!.dataset as unknown as Config;
if (settings.writeKey) init(settings);
