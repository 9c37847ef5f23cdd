// Small things: elements, text, numbers, what is told to those who hear the page.

export const $ = (id) => document.getElementById(id);
export const calm = matchMedia("(prefers-reduced-motion: reduce)");
// Whether a finger points, which cannot hover.
export const touched = matchMedia("(hover: none)");
export const press = () => (touched.matches ? "Tap" : "Click");

const counted = new Intl.NumberFormat("en-GB");
export const number = (value) => counted.format(value);
export const images = (count) => `${number(count)} image${count === 1 ? "" : "s"}`;
export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** An element with properties, attributes (aria-*), data and style; children that are null are left out. */
export function el(tag, properties = {}, ...children) {
  const { dataset, style, ...rest } = properties;
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(rest)) {
    if (name in node && !name.startsWith("aria")) node[name] = value;
    else node.setAttribute(name, value);
  }
  Object.assign(node.dataset, dataset);
  for (const [name, value] of Object.entries(style ?? {})) {
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.style[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const button = (text, onclick, properties = {}) => el("button", { type: "button", onclick, ...properties }, text);

/** A group of buttons of which one is pressed: [value, text] each. */
export function choice(label, options, pressed, choose, name) {
  return el("div", { className: "choice", role: "group", "aria-label": label },
    ...options.map(([value, text]) => button(text, () => choose(value), {
      "aria-pressed": String(value === pressed), dataset: { [name]: value },
    })));
}

let told = 0;
export function tell(text) {
  clearTimeout(told);
  told = setTimeout(() => { $("told").textContent = text; }, 120);
}

/** Replace what a node holds, and leave the keyboard where it was: on the button with the same data. */
export function refill(host, ...nodes) {
  const focused = host.contains(document.activeElement) ? { ...document.activeElement.dataset } : null;
  host.replaceChildren(...nodes.filter((node) => node !== null && node !== undefined));
  const keys = focused ? Object.entries(focused) : [];
  if (!keys.length) return;
  const same = (node) => keys.every(([name, value]) => node.dataset[name] === value);
  [...host.querySelectorAll("button, select, input")].find(same)?.focus({ preventScroll: true });
}
