// The page: load the description of the model, accept a radiograph, show its findings.

import * as api from "./api.js";
import { byId, bytes, element, probability, save, shown } from "./dom.js";
import { listScores } from "./findings.js";
import { announce, showProblem, showProgress } from "./messages.js";
import { KINDS, showModel } from "./model.js";
import { decode, isBlank, Picture, poster } from "./picture.js";
import { askToken } from "./token.js";
import { Viewer } from "./viewer.js";

const HOW_TO_SEE = "Hover, tab or use the arrow keys to see the map of each.";
const viewer = new Viewer();
let served = null;
let running = null;
let result = null;

start();

async function start() {
  listen();
  try {
    served = await api.model(askToken);
  } catch (problem) {
    byId("model-line").textContent = "The server did not say which model it has.";
    showProblem(problem, start);
    return;
  }
  showProblem(null);
  showModel(served);
  await offerSamples(served.samples);
}

async function offerSamples(samples) {
  const buttons = samples.map((sample) => {
    const title = sample.title.replace(/^phantom:\s*/i, ""); // the heading says it
    const picture = element("img", { alt: "", width: 96, height: 96 });
    const button = element("button", { type: "button", disabled: true }, picture, element("span", {}, title));
    return { id: sample.id, title, button, picture };
  });
  byId("samples").replaceChildren(...buttons.map(({ button }) => element("li", {}, button)));
  // Together, or the reader waits for one after the other; a phantom that does not come stays switched off.
  await Promise.allSettled(
    buttons.map(async ({ id, title, button, picture }) => {
      const blob = await api.sample(id, askToken);
      picture.src = await dataUri(blob);
      button.disabled = false;
      button.addEventListener("click", () => look(blob, `Phantom: ${title}`));
    }),
  );
}

function listen() {
  const drop = byId("drop");
  byId("choose").onclick = () => byId("file").click();
  byId("file").onchange = (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // the same file may be chosen again
    if (file) look(file, file.name);
  };
  byId("cancel").onclick = () => running?.abort();
  byId("download-json").onclick = downloadJson;
  byId("download-png").onclick = downloadPng;
  // Anywhere on the page: a file that misses the zone must not replace the page.
  document.ondragover = (event) => {
    event.preventDefault();
    drop.classList.add("over");
  };
  document.ondragleave = (event) => event.relatedTarget ?? drop.classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const files = [...event.dataTransfer.files];
    if (files.length > 1) showProblem(new api.Problem("one", "Drop one radiograph at a time."));
    else if (files.length) look(files[0], files[0].name);
  };
}

async function look(file, name) {
  running?.abort();
  const mine = new AbortController();
  running = mine;
  showProblem(null);
  if (served && file.size > served.limits.bytes) {
    const most = `this server takes at most ${bytes(served.limits.bytes)}. Export it smaller.`;
    showProblem(new api.Problem("too_large", `${name} has ${bytes(file.size)}; ${most}`));
    return;
  }
  const stop = showProgress(name);
  try {
    const prediction = await api.predict(file, mine.signal, askToken);
    const picture = new Picture(await decode(prediction.picture));
    const maps = await Promise.all(prediction.findings.map(({ map }) => (map ? decode(map) : null)));
    if (running === mine) tellPrediction(prediction, picture, maps, name);
  } catch (problem) {
    if (running === mine) {
      if (problem.name === "AbortError") announce("Canceled.");
      else showProblem(problem, () => look(file, name));
    }
  } finally {
    stop();
    if (running === mine) running = null;
  }
}

function tellPrediction(prediction, picture, maps, name) {
  const { findings, calibrated, map_kind: kind } = prediction;
  result = { prediction, maps, index: null };
  viewer.show(picture, name);
  byId("geometry").textContent = `${prediction.image.width} × ${prediction.image.height} ${prediction.image.format}`;
  listScores(findings, (index) => showMap(index));
  showMap(null);
  byId("downloads").hidden = false;
  byId("findings-text").textContent = calibrated
    ? "Ranked by calibrated confidence. The line on a bar is the threshold of the finding. " + HOW_TO_SEE
    : "Not calibrated: scores only rank, they are no probabilities, and there are no thresholds. " + HOW_TO_SEE;
  byId("legend").hidden = !kind;
  const above = findings.filter((finding) => finding.called).length;
  const first = findings[0];
  const counted = calibrated ? `${above} of ${findings.length} findings above their threshold. ` : "";
  announce(`Done. ${counted}Highest: ${shown(first.name)}, ${probability(first.score)}.`);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("stage").scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
}

function showMap(index) {
  const { prediction, maps } = result;
  const kind = KINDS[prediction.map_kind];
  result.index = index;
  const map = index === null ? null : maps[index];
  const name = index === null ? "" : shown(prediction.findings[index].name);
  viewer.overlay(map, map ? name : "");
  if (!kind) return;
  if (map && isBlank(map)) byId("legend-text").textContent = `${kind.name} of ${name}: empty, no place speaks for it.`;
  else byId("legend-text").textContent = `${kind.name}${map ? ` of ${name}` : ""}: ${kind.what}.`;
}

function downloadJson() {
  // The pictures are on the page already and would make the file a hundred times larger.
  const { picture: _picture, findings, ...rest } = result.prediction;
  const answer = { ...rest, findings: findings.map(({ map: _map, ...finding }) => finding) };
  save(new Blob([`${JSON.stringify(answer, null, 2)}\n`], { type: "application/json" }), `${stem()}.json`);
}

async function downloadPng() {
  const { prediction, maps, index } = result;
  const finding = index === null ? null : prediction.findings[index];
  const words = [`${prediction.research_use} Model ${prediction.model.name}.`];
  if (finding) {
    const above = finding.called === null ? "" : finding.called ? ", above its threshold" : ", below its threshold";
    const kind = KINDS[prediction.map_kind]?.name ?? "";
    words.unshift(`${shown(finding.name)} ${probability(finding.score)}${above}. ${kind}`);
  }
  const map = index === null ? null : maps[index];
  save(await poster(viewer.picture, map, viewer.opacity, words), `${stem()}.png`);
}

/** Names of downloads: of the file's content, since its name may tell who the patient is. */
const stem = () => `trcgl-${result.prediction.image.sha256.slice(0, 12)}`;

function dataUri(blob) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(blob);
  });
}
