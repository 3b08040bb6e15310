// A whole model: its input picture with the receptive field of one unit, and its layers in a column, each opening into
// its own view.

const PICTURE_ROOM = 420;

// Rows (or columns) of the input that output `unit` of an axis sees, cut at the image.
function fieldOf(axis, unit, size) {
  if (!axis || axis.whole) return [0, size - 1];
  const first = Math.ceil(axis.first + axis.jump * unit);
  const last = Math.floor(axis.last + axis.jump * unit);
  return [Math.max(0, first), Math.min(size - 1, last)];
}

class ModelView {
  constructor(report, values) {
    this.report = report;
    this.values = values;
    this.size = report.input_shape.slice(-2);
    this.rows = report.rows.filter((row) => row.field && row.output_shape.length >= 3);
    this.chosen = { row: this.rows.length - 1, unit: [0, 0] };
    this.canvas = el("canvas", { role: "img" });
    this.text = el("p", { "aria-live": "polite" });
    this.root = el("div", {}, this.fieldPart(), this.totalsPart(), el("h2", {}, "Layers"),
      ...report.rows.map((row) => this.layerPart(row)));
    this.usePicture(values.image || null);
  }

  // ---- the receptive field ----------------------------------------------------------------------------------------

  fieldPart() {
    const names = this.rows.map((row) => `${row.index}: ${row.name || row.layer}`);
    const layer = choice("unit of layer", names, names[this.chosen.row], (name) => {
      this.chosen.row = names.indexOf(name);
      this.middle();
    });
    this.unitFields = el("span", {});
    const file = el("input", { type: "file", accept: "image/*" });
    file.addEventListener("change", () => file.files[0] && this.take(file.files[0]));
    const drop = el("div", { class: "drop" }, labelled("Your own image: choose a file, or drop one here", file));
    drop.addEventListener("dragover", (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (event.dataTransfer.files[0]) this.take(event.dataTransfer.files[0]);
    });
    return el("section", { "aria-label": "Receptive field" }, el("h2", {}, "Receptive field of one unit"),
      el("div", { class: "bar" }, layer, this.unitFields), drop,
      el("div", { class: "grid" }, this.canvas), this.text);
  }

  middle() {
    const shape = this.rows[this.chosen.row].output_shape.slice(-2);
    this.chosen.unit = shape.map((n) => Math.floor(n / 2));
    this.unitFields.replaceChildren(...["row", "column"].map((name, axis) =>
      numberField(name, this.chosen.unit[axis], 0, shape[axis] - 1, (value) => {
        this.chosen.unit[axis] = value;
        this.drawField();
      })));
    this.drawField();
  }

  // The rectangle [[first row, last row], [first column, last column]] of the input that the chosen unit sees.
  rectangle() {
    const row = this.rows[this.chosen.row];
    return row.field.map((axis, i) => fieldOf(axis, this.chosen.unit[i], this.size[i]));
  }

  async take(file) {
    try {
      this.picture = await createImageBitmap(file);
      this.drawField();
    } catch {
      this.text.textContent = `${file.name} is not an image that this browser can read.`;
    }
  }

  usePicture(source) {
    this.picture = null;
    if (this.rows.length) this.middle();
    if (!source) return;
    const image = new Image();
    image.addEventListener("load", () => {
      this.picture = image;
      this.drawField();
    });
    image.src = source;
  }

  drawField() {
    const [h, w] = this.size;
    const s = Math.max(1, Math.min(24, PICTURE_ROOM / Math.max(h, w)));
    this.canvas.width = w * s;
    this.canvas.height = h * s;
    const g = this.canvas.getContext("2d");
    if (this.picture) g.drawImage(this.picture, 0, 0, w * s, h * s);
    else this.checks(g, h, w, s);
    const [[top, bottom], [left, right]] = this.rectangle();
    g.lineWidth = 6;
    g.strokeStyle = "#ffffff";
    g.strokeRect(left * s, top * s, (right - left + 1) * s, (bottom - top + 1) * s);
    g.lineWidth = 2;
    g.strokeStyle = "#0a4fa3";
    g.setLineDash([8, 4]);
    g.strokeRect(left * s, top * s, (right - left + 1) * s, (bottom - top + 1) * s);
    g.setLineDash([]);
    const row = this.rows[this.chosen.row];
    const seen = (bottom - top + 1) * (right - left + 1);
    this.text.textContent = `Unit (${this.chosen.unit.join(", ")}) of ${row.name || row.layer} sees rows ${top} to `
      + `${bottom} and columns ${left} to ${right} of the input: ${short(seen)} of ${short(h * w)} pixels.`;
    this.canvas.setAttribute("aria-label", this.text.textContent);
  }

  checks(g, h, w, s) {
    const cell = Math.max(1, Math.round(Math.max(h, w) / 16));
    for (let r = 0; r < h; r += cell)
      for (let c = 0; c < w; c += cell) {
        g.fillStyle = (r / cell + c / cell) % 2 ? "#d0d7de" : "#f3f5f7";
        g.fillRect(c * s, r * s, cell * s, cell * s);
      }
  }

  // ---- the column of layers ---------------------------------------------------------------------------------------

  totalsPart() {
    const rows = Object.entries(this.report.totals)
      .filter(([, value]) => typeof value === "number")
      .map(([name, value]) => [name.replace(/_/g, " "), value]);
    return el("section", { "aria-label": "Totals" }, el("h2", {}, "Totals"),
      table("The whole model", ["what", "how much"], rows));
  }

  layerPart(row) {
    const about = ` ${row.layer}, output ${row.output_shape.join(" x ")}, ${short(row.parameters)} parameters, `
      + `${short(row.multiply_adds)} multiply-adds`;
    const part = el("details", { class: "row" },
      el("summary", {}, `${row.index}: ${row.name || row.layer}`, el("span", { class: "about" }, about)));
    part.addEventListener("toggle", () => {
      if (part.open && part.childElementCount === 1) part.append(...this.open(row));
    });
    return part;
  }

  open(row) {
    const parts = row.hints.map((hint) => el("p", { class: "hint" }, hint.text));
    parts.push(el("p", {}, el("code", {}, row.call)));
    const values = this.values.rows ? this.values.rows[row.index] : null;
    if (values && values.map) parts.push(this.mapPart(values.map));
    const detail = row.detail;
    if (detail && detail.options && detail.layer === "Conv2d") parts.push(new LayerView(detail, values).root);
    return parts;
  }

  // What konv computed for this layer: one channel at a time.
  mapPart(map) {
    const [channels, h, w] = map.shape;
    const grid = new Grid("feature map");
    const draw = (channel) => {
      grid.draw({ rows: h, columns: w, value: (r, c) => map.data[(channel * h + r) * w + c], room: 240 });
      grid.say(`Feature map of channel ${channel}, ${h} rows, ${w} columns`);
    };
    draw(0);
    return el("figure", {}, el("figcaption", {}, "feature map computed by konv"),
      numberField("channel", 0, 0, channels - 1, draw), grid.box);
  }
}
