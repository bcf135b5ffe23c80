"use strict";
const form = document.getElementById("ratings");
const kit = form.dataset.kit;
const cases = [...form.querySelectorAll(".case")];
const COLUMNS = ["kit", "case", "real_or_drawn", "confidence", "finding", "remark"];

function rating(one) {
  const name = one.dataset.case;
  const field = (what) => form.elements[name + "-" + what].value.trim();
  return [kit, name, field("origin"), field("confidence"), field("finding"), field("remark")];
}

const rated = (one) => rating(one).slice(2, 5).every(Boolean);

function csv() {
  const quoted = (text) => '"' + text.replace(/"/g, '""').replace(/[\r\n]+/g, " ") + '"';
  return [COLUMNS, ...cases.map(rating)].map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function show() {
  const done = cases.filter(rated).length;
  for (const one of cases) one.classList.toggle("rated", rated(one));
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

function choose(one, what, value) {
  form.elements[one.dataset.case + "-" + what].value = value;
  form.dispatchEvent(new Event("input"));
}

function go(one) {
  if (!one) return;
  one.scrollIntoView({ block: "center" });
  one.focus({ preventScroll: true });
}

form.addEventListener("input", () => { show(); keep(); });
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("keydown", (event) => {
  const one = event.target.closest(".case");
  const typing = event.target.matches("select, input[type=text]");
  if (!one || typing || event.ctrlKey || event.altKey || event.metaKey) return;
  const key = event.key.toLowerCase();
  if (key === "r") choose(one, "origin", "real");
  else if (key === "d") choose(one, "origin", "drawn");
  else if ("12345".includes(key)) choose(one, "confidence", key);
  else if (key === "n") go(cases[cases.indexOf(one) + 1]);
  else if (key === "p") go(cases[cases.indexOf(one) - 1]);
  else return;
  event.preventDefault();
});

document.getElementById("save").addEventListener("click", () => {
  const open = cases.find((one) => !rated(one));
  if (open && !confirm("Some cases are not rated yet. Save all the same?")) { go(open); return; }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "ratings-" + kit + ".csv";
  link.click();
  URL.revokeObjectURL(link.href);
});

restore();
show();
