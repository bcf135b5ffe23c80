// Elements from data: text only, never HTML.

export const byId = (id) => document.getElementById(id);

/** An element; `properties` are set as properties, `aria-*` and `data-*` as attributes, children as nodes or text. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (/^(aria|data)-/.test(name)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** A probability with three decimals, and never a 0 or 1 that is none. */
export function probability(value) {
  if (value < 0.0005) return "< 0.001";
  if (value > 0.9995) return "> 0.999";
  return value.toFixed(3);
}

/** A number of bytes as text. */
export function bytes(count) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (count >= size) return `${Math.round((10 * count) / size) / 10} ${unit}`;
  }
  return `${count} bytes`;
}

/** Names of findings as they are shown: a label table may join words with underscores. */
export const shown = (name) => name.replaceAll("_", " ");

/** Hand `blob` to the browser as a download. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
