// The list of findings: their names, and after a prediction their scores.

import { byId, element, probability, shown } from "./dom.js";

const list = byId("list");

/** The findings of the model, before it has seen a radiograph. */
export function listNames(findings) {
  list.replaceChildren(
    ...findings.map(({ name, group }) =>
      element("li", { className: "name-only" }, element("span", { className: "name" }, shown(name)), ...badge(group)),
    ),
  );
}

/**
 * The findings of a prediction as a list of buttons, in the order given.
 *
 * `onShow(index)` is called with the finding whose map is wanted, and with null where none is: what the mouse is over,
 * else what was chosen by a click or by moving the focus.
 */
export function listScores(findings, onShow) {
  let chosen = null;
  const rows = findings.map((finding, index) => scoreRow(finding, index));

  function choose(index) {
    chosen = index;
    rows.forEach((row, at) => row.setAttribute("aria-pressed", String(at === chosen)));
    onShow(chosen);
  }

  rows.forEach((row, index) => {
    let before = null;
    row.addEventListener("pointerdown", () => (before = chosen));
    row.addEventListener("focus", () => choose(index));
    // A click focuses first; it takes the map away where the finding was chosen already.
    row.addEventListener("click", (event) => choose(event.detail > 0 && before === index ? null : index));
    row.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && onShow(index));
    row.addEventListener("keydown", (event) => {
      if (event.key === "Escape") choose(null);
      const to = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: rows.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      rows[to]?.focus();
    });
  });
  list.onpointerleave = () => onShow(chosen);
  list.replaceChildren(...rows.map((row) => element("li", {}, row)));
}

function scoreRow({ name, group, score, threshold, called }) {
  const fill = element("span", { className: "fill" });
  fill.style.width = `${100 * score}%`;
  const bar = element("span", { className: `bar ${group ?? "plain"}`, "aria-hidden": "true" }, fill);
  if (threshold !== null) {
    const mark = element("span", { className: "mark" });
    mark.style.left = `${100 * threshold}%`;
    bar.append(mark);
  }
  return element(
    "button",
    { type: "button", className: called ? "finding called" : "finding", "aria-pressed": "false" },
    element(
      "span",
      { className: "line" },
      element("span", { className: "name" }, shown(name)),
      ...badge(group),
      element("span", { className: "score" }, probability(score)),
    ),
    element(
      "span",
      { className: "line" },
      bar,
      element("span", { className: "verdict" }, ...verdict(threshold, called)),
    ),
  );
}

function verdict(threshold, called) {
  if (threshold === null) return [];
  const line = [element("span", { className: "hidden" }, "threshold "), probability(threshold)];
  return called ? [element("span", { "aria-hidden": "true" }, "▲ "), "above ", ...line] : ["below ", ...line];
}

function badge(group) {
  return group ? [element("span", { className: `badge ${group}` }, group)] : [];
}
