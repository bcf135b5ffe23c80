// The question for the token of the server, asked once however many requests wait for it.

import { byId } from "./dom.js";

let asked = null;

/** The token that the reader types, or null where the question is dismissed; `wrong` says that the last was refused. */
export function askToken(wrong) {
  asked ??= ask(wrong).finally(() => (asked = null));
  return asked;
}

function ask(wrong) {
  const dialog = byId("token");
  const value = byId("token-value");
  byId("token-text").textContent = wrong
    ? "The server does not know that token. Whoever started the server has the right one."
    : "Whoever started the server has it. It is kept until this tab is closed.";
  value.value = "";
  dialog.returnValue = "";
  byId("token-cancel").onclick = () => dialog.close("");
  byId("token-form").onsubmit = (event) => {
    event.preventDefault();
    dialog.close("given");
  };
  dialog.showModal();
  return new Promise((done) => {
    dialog.onclose = () => done(dialog.returnValue === "given" ? value.value.trim() : null);
  });
}
