// What the page says while it waits, when it is done, and when something went wrong.

import { byId, element } from "./dom.js";

let running = null;

/** Read a sentence aloud to whoever cannot see what changed. */
export function tell(text) {
  byId("status").textContent = text;
}

/** Say what went wrong, with a button where `again` may succeed; null takes the last problem away. */
export function tellProblem(problem, again) {
  const place = byId("problem");
  if (!problem) {
    place.replaceChildren();
    return;
  }
  const parts = [element("strong", {}, `${problem.title ?? "That did not work"}.`), element("p", {}, problem.message)];
  if (again && problem.passing) {
    parts.push(element("button", { type: "button", className: "quiet", onclick: again }, "Try again"));
  }
  tell("");
  place.replaceChildren(...parts);
}

/** Say that a file is on its way, after a while how long it has taken; returns what ends that. */
export function tellProgress(name) {
  const begun = Date.now();
  const text = byId("progress-text");
  const say = () => {
    const seconds = Math.round((Date.now() - begun) / 1000);
    text.textContent = seconds < 2 ? `Reading ${name}…` : `Reading ${name}… ${seconds} s`;
  };
  say();
  tell(`Reading ${name}.`);
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
