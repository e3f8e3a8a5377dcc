/**
 * Writes src/event.ts from the newest event schema: what a client may send. Members of the edge (readOnly) are left out,
 * and `user.consent` is required, as it is at the edge.
 *
 *     node scripts/types.mjs          write it
 *     node scripts/types.mjs --print  print it
 */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = new URL("../../chart_platform/contracts/schemas/", import.meta.url);
const version = readdirSync(folder)
  .map((name) => /^chart_event-(\d+)\.(\d+)\.(\d+)\.json$/.exec(name)?.slice(1).map(Number))
  .filter(Boolean)
  .sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2])
  .at(-1)
  .join(".");
const schema = JSON.parse(readFileSync(new URL(`chart_event-${version}.json`, folder), "utf8"));
schema.properties.user.required = ["consent"];
schema.properties.user.properties.consent.type = "object";

const PRIMITIVES = { string: "string", number: "number", integer: "number", boolean: "boolean", null: "null" };

function typeOf(schema, indent) {
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  return [schema.type].flat().map((kind) => {
    if (kind == "object") return objectOf(schema, indent);
    if (kind == "array") return `${typeOf(schema.items, indent)}[]`;
    if (kind in PRIMITIVES) return PRIMITIVES[kind];
    throw new Error(`Event schema: type ${JSON.stringify(kind)} has no TypeScript type; teach scripts/types.mjs.`);
  }).join(" | ");
}

function objectOf(schema, indent) {
  const inner = indent + "  ";
  const members = Object.entries(schema.properties).filter(([, member]) => !member.readOnly);
  const lines = members.flatMap(([name, member]) => {
    const optional = !schema.required?.includes(name);
    return [
      ...(member.description ? [`${inner}/** ${member.description} */`] : []),
      `${inner}${name}${optional ? "?" : ""}: ${typeOf(member, inner)}${optional ? " | undefined" : ""};`,
    ];
  });
  return ["{", ...lines, `${indent}}`].join("\n");
}

const text = `/** Generated from chart_event-${version}.json by \`npm run types\`. Do not edit. */

export const SCHEMA_VERSION = ${JSON.stringify(version)};

/** ${schema.description} */
export interface ChartEvent ${objectOf(schema, "")}
`;

if (process.argv.includes("--print")) process.stdout.write(text);
else writeFileSync(fileURLToPath(new URL("../src/event.ts", import.meta.url)), text);
