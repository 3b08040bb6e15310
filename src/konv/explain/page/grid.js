// One plane of numbers as a grid on a canvas. Meaning never hangs on colour alone: padding is hatched, the window has a
// thick outline with a dot in each cell it reads, reached outputs have a dashed outline, and values are written out
// where a cell is large enough.

class Grid {
  // choose(row, column) on pointer; keys(event) on keyboard.
  constructor(label, { choose = null, leave = null, keys = null } = {}) {
    this.canvas = el("canvas", { role: "img", "aria-label": label });
    this.box = el("div", { class: "grid", tabindex: 0, role: "group", "aria-label": label }, this.canvas);
    if (choose) {
      this.canvas.addEventListener("pointermove", (event) => choose(...this.cellAt(event)));
      this.canvas.addEventListener("pointerdown", (event) => choose(...this.cellAt(event)));
    }
    if (leave) this.canvas.addEventListener("pointerleave", leave);
    if (keys) this.box.addEventListener("keydown", keys);
  }

  // origin: index of the first row and column shown (negative: padding). Marks are lists of [row, column].
  draw({ rows, columns, origin = [0, 0], value, isPadding = () => false, window = [], reach = [], room = 420 }) {
    this.origin = origin;
    this.size = Math.max(2, Math.min(44, Math.floor(room / Math.max(rows, columns))));
    const s = this.size;
    const scale = globalThis.devicePixelRatio || 1;
    this.canvas.width = columns * s * scale;
    this.canvas.height = rows * s * scale;
    this.canvas.style.width = `${columns * s}px`;
    this.canvas.style.height = `${rows * s}px`;
    const g = this.canvas.getContext("2d");
    g.scale(scale, scale);
    const [low, high] = this.range(rows, columns, origin, value);
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) {
        const at = [r + origin[0], c + origin[1]];
        this.cell(g, c * s, r * s, value(...at), low, high, isPadding(...at));
      }
    for (const at of reach) this.outline(g, at, "#8a3b00", [4, 3], false);
    for (const at of window) this.outline(g, at, "#0a4fa3", [], true);
  }

  range(rows, columns, origin, value) {
    let low = Infinity;
    let high = -Infinity;
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) {
        const v = value(r + origin[0], c + origin[1]);
        if (v < low) low = v;
        if (v > high) high = v;
      }
    return [low, high > low ? high : low + 1];
  }

  cell(g, x, y, v, low, high, padding) {
    const s = this.size;
    const light = Math.round(70 + (185 * (v - low)) / (high - low));
    g.fillStyle = `rgb(${light},${light},${light})`;
    g.fillRect(x, y, s, s);
    if (padding && s >= 5) this.hatch(g, x, y);
    if (s >= 6) {
      g.strokeStyle = "#8c959f";
      g.lineWidth = 0.5;
      g.strokeRect(x, y, s, s);
    }
    if (s >= 30) {
      g.fillStyle = light > 150 ? "#000000" : "#ffffff";
      g.font = `${Math.floor(s / 3.4)}px ui-monospace, monospace`;
      g.textAlign = "center";
      g.textBaseline = "middle";
      g.fillText(Number.isInteger(v) ? `${v}` : v.toFixed(2), x + s / 2, y + s / 2);
    }
  }

  hatch(g, x, y) {
    const s = this.size;
    g.strokeStyle = "#57606a";
    g.lineWidth = 1;
    g.beginPath();
    for (let d = 4; d < 2 * s; d += 6) {
      g.moveTo(x + Math.max(0, d - s), y + Math.min(d, s));
      g.lineTo(x + Math.min(d, s), y + Math.max(0, d - s));
    }
    g.stroke();
  }

  outline(g, [row, column], colour, dash, dot) {
    const s = this.size;
    const x = (column - this.origin[1]) * s;
    const y = (row - this.origin[0]) * s;
    g.setLineDash(dash);
    g.strokeStyle = colour;
    g.lineWidth = Math.max(1, Math.min(3, s / 6));
    g.strokeRect(x + 1, y + 1, s - 2, s - 2);
    g.setLineDash([]);
    if (dot && s >= 8) {
      g.fillStyle = colour;
      g.beginPath();
      g.arc(x + s - s / 6, y + s / 6, Math.max(1.5, s / 14), 0, 7);
      g.fill();
    }
  }

  cellAt(event) {
    const box = this.canvas.getBoundingClientRect();
    return [Math.floor((event.clientY - box.top) / this.size) + this.origin[0],
      Math.floor((event.clientX - box.left) / this.size) + this.origin[1]];
  }

  say(text) {
    this.canvas.setAttribute("aria-label", text);
  }
}
