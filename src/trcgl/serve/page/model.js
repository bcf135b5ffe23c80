// The description of the model.

import { byId, bytes, element } from "./dom.js";
import { listNames } from "./findings.js";

/** The kinds of maps: their name, and what is bright in them. */
export const KINDS = {
  attention: {
    name: "Attention map",
    what: "the brighter a place, the more it counts in what the model gathers for the finding",
  },
  grad_cam: { name: "Grad-CAM", what: "the brighter a place, the more its features raise the score of the finding" },
};

/** Describe the served model. */
export function showModel(model) {
  const { name, findings, calibrated, limits } = model;
  const state = calibrated ? "calibrated" : "not calibrated";
  byId("model-line").textContent = `Model ${name} · ${findings.length} findings · ${state}`;
  byId("phantom").hidden = !model.phantom;
  byId("version").textContent = model.trcgl;
  byId("limits").textContent =
    `DICOM, PNG or JPEG, at most ${bytes(limits.bytes)}. ` +
    "It stays between this browser and this server, and is not stored.";
  byId("findings-text").textContent = "What this model looks for. Choose a radiograph to see how sure it is of each.";
  listNames(findings);
  const entries = Object.entries(facts(model)).flatMap(([term, text]) => [
    element("dt", {}, term),
    element("dd", {}, text),
  ]);
  byId("facts").replaceChildren(...entries);
  byId("about").open = matchMedia("(min-width: 72rem)").matches;
}

function facts(model) {
  const { findings, calibrated, temperature } = model;
  const groups = ["head", "medium", "tail"]
    .map((group) => [findings.filter((finding) => finding.group === group).length, group])
    .filter(([count]) => count);
  return {
    Name: model.name,
    Findings: [findings.length, groups.map((group) => group.join(" ")).join(", ")].filter(Boolean).join(": "),
    Calibration: calibrated
      ? `yes, temperature ${temperature.toFixed(2)}`
      : "none: scores only rank, and there are no thresholds",
    "Trained on": model.phantom ? "rendered phantoms" : "radiographs",
    Head: model.head,
    Maps: KINDS[model.map_kind].name,
    Input: `${model.image_size} × ${model.image_size} pixels, ${model.fit}`,
    "License of its initial weights": model.license,
    Weights: `sha256 ${model.weights_sha256.slice(0, 16)}…`,
  };
}
