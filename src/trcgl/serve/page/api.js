// The HTTP interface of `trcgl serve`. Every failure is a Problem with a sentence for the reader.

const TOKEN = "trcgl-token";
const TITLES = {
  too_large: "The file is too large",
  unreadable: "The file cannot be read",
  not_accepted: "This is no chest radiograph for display",
  unsupported: "This is no file that the server reads",
  busy: "The server is busy",
  timeout: "It took too long",
  unauthorized: "The server wants a token",
  forbidden: "The server refused",
  unreachable: "The server does not answer",
};
const PASSING = ["busy", "timeout", "unauthorized", "unreachable", "failed"];

let token = stored();

/** What went wrong, and whether the same request may succeed later. */
export class Problem extends Error {
  constructor(code, message) {
    super(message);
    this.title = TITLES[code] ?? "That did not work";
    this.passing = PASSING.includes(code);
    this.code = code;
  }
}

/** Which model is served. `askToken(wrong)` resolves to a token, or to null where the reader has none. */
export const model = async (askToken) => (await ask("v1/model", {}, askToken)).json();

/** A rendered phantom as a Blob. */
export const sample = async (id, askToken) => (await ask(`v1/samples/${encodeURIComponent(id)}`, {}, askToken)).blob();

/** Scores and maps of one file. */
export async function predict(file, signal, askToken) {
  const body = new FormData();
  // The name may tell who the patient is, and the server has no use for it.
  body.append("file", file, "radiograph");
  return (await ask("v1/predict?maps=true", { method: "POST", body, signal }, askToken)).json();
}

async function ask(path, options, askToken) {
  for (;;) {
    const tried = token;
    const answer = await send(path, tried ? { ...options, headers: { Authorization: `Bearer ${tried}` } } : options);
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (answer.status !== 401) throw problem;
    // Another request may have been given the token in the meantime.
    if (token !== tried) continue;
    const given = await askToken(tried !== null);
    if (given === null) throw problem;
    keep(given);
  }
}

function stored() {
  try {
    return sessionStorage.getItem(TOKEN);
  } catch {
    return null; // storage is switched off: the token lasts as long as the page
  }
}

function keep(given) {
  token = given;
  try {
    sessionStorage.setItem(TOKEN, given);
  } catch {
    // as above
  }
}

async function send(path, options) {
  try {
    return await fetch(path, { ...options, credentials: "omit", cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const todo = "Check that trcgl serve still runs and that this machine reaches it, then try again.";
    throw new Problem("unreachable", todo);
  }
}

async function problemOf(answer) {
  try {
    const { error } = await answer.json();
    return new Problem(error.code, error.message);
  } catch {
    return new Problem("failed", `The server answered ${answer.status}. Its log may say why.`);
  }
}
