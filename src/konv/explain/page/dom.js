// Building the page: text always enters as text, never as markup.

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function table(caption, head, rows) {
  const cell = (tag, value) =>
    el(tag, { class: typeof value === "number" ? "number" : null, scope: tag === "th" ? "col" : null },
      typeof value === "number" ? short(value) : value);
  return el("table", {}, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...head.map((name) => cell("th", name)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((value) => cell("td", value))))));
}

// A number for people: whole numbers whole, others with four digits.
function short(value) {
  if (Number.isInteger(value)) return value.toLocaleString("en-US").replace(/,/g, " ");
  return Number(value.toPrecision(4)).toString();
}

let nextId = 0;
function labelled(text, control) {
  control.id = control.id || `field-${nextId++}`;
  return el("span", { class: "field" }, el("label", { for: control.id }, text), control);
}

const calmMotion = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
