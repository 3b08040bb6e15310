// Reads the data that the page carries and shows it. `window.konvPage` is what tests read.

const page = JSON.parse(document.getElementById("konv-data").textContent);
const main = document.getElementById("main");

function show(report, values) {
  if (report.kind === "model") return new ModelView(report, values);
  if (report.layer === "Conv2d") return new LayerView(report, values);
  return { root: el("p", {}, "There is no picture of this kind of layer; its tables stand below.") };
}

const view = show(page.report, page.values);
main.append(view.root);
window.konvPage = { view, report: page.report };
// Motion starts by itself nowhere; where the reader asked for less of it, playing jumps without a timer's haste.
if (calmMotion()) document.documentElement.dataset.motion = "reduced";
