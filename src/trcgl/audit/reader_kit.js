"use strict";
const form = document.getElementById("ratings");
const kit = form.dataset.kit;
const cases = [...form.querySelectorAll(".case")];
const COLUMNS = ["kit", "case", "real_or_synthetic", "confidence", "finding", "remark"];

function rating(element) {
  const name = element.dataset.case;
  const field = (what) => form.elements[name + "-" + what].value.trim();
  return [kit, name, field("origin"), field("confidence"), field("finding"), field("remark")];
}

const rated = (element) => rating(element).slice(2, 5).every(Boolean);

function csv() {
  const quoted = (text) => '"' + text.replace(/"/g, '""').replace(/[\r\n]+/g, " ") + '"';
  return [COLUMNS, ...cases.map(rating)].map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function show() {
  const done = cases.filter(rated).length;
  for (const element of cases) element.classList.toggle("rated", rated(element));
  document.getElementById("progress").textContent = done + " of " + cases.length + " rated";
}

// A page that is opened as a file may be refused storage: then ratings live as long as the page.
function keep() {
  try { localStorage.setItem("trcgl-reader-kit-" + kit, JSON.stringify(cases.map(rating))); } catch { /* not kept */ }
}

function restore() {
  let kept = null;
  try { kept = JSON.parse(localStorage.getItem("trcgl-reader-kit-" + kit)); } catch { /* nothing kept */ }
  for (const row of kept || []) {
    ["origin", "confidence", "finding", "remark"].forEach((what, place) => {
      const field = form.elements[row[1] + "-" + what];
      if (field) field.value = row[place + 2];
    });
  }
}

function choose(element, what, value) {
  form.elements[element.dataset.case + "-" + what].value = value;
  form.dispatchEvent(new Event("input"));
}

function go(element) {
  if (!element) return;
  element.scrollIntoView({ block: "center" });
  element.focus({ preventScroll: true });
}

form.addEventListener("input", () => { show(); keep(); });
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("keydown", (event) => {
  const element = event.target.closest(".case");
  const typing = event.target.matches("select, input[type=text]");
  if (!element || typing || event.ctrlKey || event.altKey || event.metaKey) return;
  const key = event.key.toLowerCase();
  if (key === "r") choose(element, "origin", "real");
  else if (key === "s") choose(element, "origin", "synthetic");
  else if ("12345".includes(key)) choose(element, "confidence", key);
  else if (key === "n") go(cases[cases.indexOf(element) + 1]);
  else if (key === "p") go(cases[cases.indexOf(element) - 1]);
  else return;
  event.preventDefault();
});

document.getElementById("save").addEventListener("click", () => {
  const open = cases.find((element) => !rated(element));
  if (open && !confirm("Some cases are not rated yet. Save all the same?")) { go(open); return; }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "ratings-" + kit + ".csv";
  link.click();
  URL.revokeObjectURL(link.href);
});

restore();
show();
