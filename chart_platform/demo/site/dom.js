// Elements from data. Text always becomes a text node: nothing here, or anywhere on this site, parses a string as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** `h("button", {class: "go", onclick, "aria-pressed": true}, "Go")`; null and false leave an attribute or child out. */
export function h(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** A drawing of the sprite in the page. */
export function icon(name, className = "icon") {
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${name}`);
  return furnish(document.createElementNS(SVG, "svg"), { class: className, "aria-hidden": "true" }, [use]);
}

export const logo = (product, className = "logo") => icon(`logo-${product.id}`, className);

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name in element && typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const dollars = (amount) => `$${amount % 1 ? amount.toFixed(2) : amount}`;
