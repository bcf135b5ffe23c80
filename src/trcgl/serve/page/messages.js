// Status messages: progress, completion, errors.

import { byId, element } from "./dom.js";

let running = null;

/** Announce a sentence to screen readers. */
export function announce(text) {
  byId("status").textContent = text;
}

/** Show an error, with a button to retry where `again` may succeed; null hides the last error. */
export function showProblem(problem, again) {
  const place = byId("problem");
  if (!problem) {
    place.replaceChildren();
    return;
  }
  const parts = [element("strong", {}, `${problem.title ?? "That did not work"}.`), element("p", {}, problem.message)];
  if (again && problem.passing) {
    parts.push(element("button", { type: "button", className: "quiet", onclick: again }, "Try again"));
  }
  announce("");
  place.replaceChildren(...parts);
}

/** Show that a file is being read, and for how long; returns a function that hides the message. */
export function showProgress(name) {
  const begun = Date.now();
  const text = byId("progress-text");
  const say = () => {
    const seconds = Math.round((Date.now() - begun) / 1000);
    text.textContent = seconds < 2 ? `Reading ${name}…` : `Reading ${name}… ${seconds} s`;
  };
  say();
  announce(`Reading ${name}.`);
  byId("progress").hidden = false;
  byId("findings").setAttribute("aria-busy", "true");
  const timer = setInterval(say, 1000);
  running = timer;
  return () => {
    clearInterval(timer);
    if (running !== timer) return; // another file has begun since
    byId("progress").hidden = true;
    byId("findings").removeAttribute("aria-busy");
  };
}
