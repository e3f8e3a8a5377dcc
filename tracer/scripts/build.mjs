/** Bundles with esbuild, shortens with terser, and leaves the types to tsc. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";
import { minify } from "terser";

const root = new URL("../", import.meta.url);
process.chdir(root.pathname);
const { version } = JSON.parse(readFileSync("package.json", "utf8"));

async function bundle(entry, name, format, platform = "browser") {
  const { outputFiles } = await build({
    entryPoints: [`src/${entry}.ts`],
    bundle: true,
    write: false,
    format,
    platform,
    define: { SDK_VERSION: JSON.stringify(version) },
    target: "es2021",
    legalComments: "none",
  });
  let code = outputFiles[0].text;
  if (platform == "browser") {
    // `let` compresses better than a mixture with `const`, and the compiler has checked the difference.
    code = code.replace(/\bconst /g, "let ").replace('"use strict";', "");
    ({ code } = await minify(code, {
      module: format == "esm",
      toplevel: true,
      ecma: 2020,
      compress: { passes: 4, inline: 1, unsafe: true, unsafe_arrows: true, unsafe_comps: true, pure_getters: true },
    }));
  }
  writeFileSync(`dist/${name}.js`, code);
}

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");
await bundle("browser", "index", "esm");
await bundle("script", "tracer", "iife");
await bundle("links", "links", "esm");
await bundle("node", "node", "esm", "node");
execFileSync("node_modules/.bin/tsc", ["-p", "tsconfig.build.json"], { stdio: "inherit" });
