// One convolution: its controls, its formula with the numbers in it, and the window that slides over the input.

const MOST_SUMMED = 4e7;  // multiply-adds of one output channel that a page computes without making its reader wait
const STEP_MILLISECONDS = 700;

function optionsOf(report) {
  const o = report.options;
  return { inChannels: o.in_channels, outChannels: o.out_channels, groups: o.groups, bias: Boolean(o.bias),
    kernel: [...o.kernel_size], stride: [...o.stride], dilation: [...o.dilation], mode: o.padding_mode,
    padding: o.padding_word || o.padding.map((side) => [...side]), size: report.input_shape.slice(-2) };
}

class LayerView {
  constructor(report, given) {
    this.given = given;
    this.options = optionsOf(report);
    this.at = { out: 0, inner: 0, row: 0, column: 0 };
    this.hover = null;
    this.timer = null;
    this.error = el("p", { class: "error", role: "alert" });
    this.facts = el("div", {});
    this.python = el("code", {});
    this.sum = el("p", { "aria-live": "polite" });
    this.words = el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Tables of this picture" });
    this.channels = el("span", {});
    this.blocks = el("div", {});
    this.makeGrids();
    this.root = el("section", { "aria-label": report.call },
      controls(this.options, () => this.change()), this.error, this.facts,
      el("p", {}, "Python: ", this.python, " ", this.copyButton()),
      this.toolbar(),
      el("div", { class: "stage" }, this.figure("padded input", this.input), this.figure("filter", this.filter),
        this.figure("output", this.output)),
      this.sum,
      el("details", {}, el("summary", {}, "These pictures as tables"), this.words),
      el("h2", {}, "Groups"), this.blocks);
    this.change();
  }

  makeGrids() {
    const leave = () => {
      this.hover = null;
      this.draw();
    };
    this.input = new Grid("padded input", { leave, choose: (r, c) => this.point([r, c]) });
    this.filter = new Grid("filter");
    this.output = new Grid("output; the arrow keys move the window", { choose: (r, c) => this.move(r, c),
      keys: (event) => this.key(event) });
  }

  figure(caption, grid) {
    return el("figure", {}, el("figcaption", {}, caption), grid.box);
  }

  copyButton() {
    const button = el("button", { type: "button" }, "Copy");
    button.addEventListener("click", async () => {
      const range = document.createRange();
      range.selectNodeContents(this.python);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      try {
        await navigator.clipboard.writeText(this.python.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Selected: press Ctrl+C";
      }
    });
    return button;
  }

  toolbar() {
    const step = (by) => () => {
      this.pause();
      this.step(by);
    };
    this.playButton = el("button", { type: "button", "aria-pressed": "false", onclick: () => this.toggle() }, "Play");
    return el("div", { class: "bar", role: "group", "aria-label": "Slide the window" },
      el("button", { type: "button", onclick: step(-1) }, "Step back"), this.playButton,
      el("button", { type: "button", onclick: step(1) }, "Step"), this.channels);
  }

  // New options: everything that depends on them is made again.
  change() {
    this.layer = layerOf(this.options);
    this.error.textContent = this.layer.error || "";
    this.python.textContent = pythonOf(this.options);
    if (this.layer.error) {
      this.pause();
      return;
    }
    this.model = new Convolution(this.options, this.layer, this.given);
    const [height, width] = this.layer.axes;
    this.at.out = Math.min(this.at.out, this.options.outChannels - 1);
    this.at.inner = Math.min(this.at.inner, this.layer.perGroup - 1);
    this.at.row = Math.min(this.at.row, height.output - 1);
    this.at.column = Math.min(this.at.column, width.output - 1);
    this.hover = null;
    this.tooMuch = this.layer.multiplyAdds / this.options.outChannels > MOST_SUMMED;
    this.showFacts();
    this.showChannels();
    this.showGroups();
    this.draw();
  }

  showFacts() {
    const { axes, parameters, multiplyAdds } = this.layer;
    const unused = axes.map((axis) => axis.unused);
    const facts = [["output", `${this.options.outChannels} x ${axes[0].output} x ${axes[1].output}`],
      ["parameters", short(parameters)], ["multiply-adds an image", short(multiplyAdds)],
      ["thrown away by the floor", `${unused[0]} rows at the bottom, ${unused[1]} columns at the right`]];
    this.facts.replaceChildren(...axes.map((axis) => el("p", { class: "formula" }, formulaOf(axis))),
      el("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
  }

  showChannels() {
    const pick = (text, count, value, set) => {
      const field = el("input", { type: "number", min: 0, max: count - 1, value });
      field.addEventListener("input", () => {
        set(Math.min(count - 1, Math.max(0, Math.round(Number(field.value) || 0))));
        this.draw();
      });
      return labelled(text, field);
    };
    this.channels.replaceChildren(
      pick("output channel", this.options.outChannels, this.at.out, (value) => { this.at.out = value; }),
      pick("input channel of its group", this.layer.perGroup, this.at.inner, (value) => { this.at.inner = value; }));
  }

  showGroups() {
    const { groups, inChannels, outChannels } = this.options;
    const { perGroup, outPerGroup } = this.layer;
    const shown = Math.min(groups, 16);
    const picture = svg("svg", { width: 60 + shown * 62, height: 110, role: "img",
      "aria-label": `${groups} blocks: each joins ${perGroup} input channels to ${outPerGroup} output channels` });
    const rows = [];
    for (let i = 0; i < shown; i++) {
      const x = 10 + i * 62;
      const range = (first, count) => (count === 1 ? `${first}` : `${first}-${first + count - 1}`);
      const ends = [[8, range(i * perGroup, perGroup)], [72, range(i * outPerGroup, outPerGroup)]];
      for (const [y, text] of ends) {
        picture.append(svg("rect", { x, y, width: 54, height: 26, fill: "none", stroke: "#1b1f24" }));
        picture.append(svg("text", { x: x + 4, y: y + 17 }, text));
      }
      picture.append(svg("line", { x1: x + 27, y1: 34, x2: x + 27, y2: 72, stroke: "#0a4fa3", "stroke-width": 3 }));
      rows.push([`${i}`, ends[0][1], ends[1][1]]);
    }
    const named = groups > 1 && groups === inChannels ? ` (depthwise, multiplier ${outPerGroup})` : "";
    const more = groups > shown ? `; the first ${shown} are drawn` : "";
    this.blocks.replaceChildren(
      el("p", {}, `groups=${groups}${named}: each output channel reads ${perGroup} of ${inChannels} input channels; `
        + `${outChannels} outputs in ${groups} blocks${more}. Top: input channels, bottom: output channels.`),
      el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Blocks of channels" }, picture),
      el("details", {}, el("summary", {}, "Groups as a table"),
        table("Blocks of channels", ["group", "input channels", "output channels"], rows)));
  }

  // ---- the window -------------------------------------------------------------------------------------------------

  move(row, column) {
    const [height, width] = this.layer.axes;
    if (row < 0 || column < 0 || row >= height.output || column >= width.output) return;
    this.hover = null;
    Object.assign(this.at, { row, column });
    this.draw();
  }

  step(by) {
    if (this.layer.error) return;
    const [height, width] = this.layer.axes;
    const count = height.output * width.output;
    const next = (this.at.row * width.output + this.at.column + by + count) % count;
    this.move(Math.floor(next / width.output), next % width.output);
  }

  point([row, column]) {
    const [h, w] = this.options.size;
    this.hover = row >= 0 && column >= 0 && row < h && column < w ? [row, column] : null;
    this.draw();
  }

  toggle() {
    if (this.timer) return this.pause();
    if (this.layer.error) return undefined;
    this.playButton.textContent = "Pause";
    this.playButton.setAttribute("aria-pressed", "true");
    this.sum.setAttribute("aria-live", "off");
    this.timer = setInterval(() => this.step(1), STEP_MILLISECONDS);
    return undefined;
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.playButton.textContent = "Play";
    this.playButton.setAttribute("aria-pressed", "false");
    this.sum.setAttribute("aria-live", "polite");
  }

  key(event) {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (by) this.move(this.at.row + by[0], this.at.column + by[1]);
    else if (event.key === " ") this.toggle();
    else return;
    event.preventDefault();
  }

  // ---- drawing ----------------------------------------------------------------------------------------------------

  draw() {
    if (this.layer.error) return;
    const { out, inner, row, column } = this.at;
    const [height, width] = this.layer.axes;
    const [h, w] = this.options.size;
    const channel = this.model.firstChannel(out) + inner;
    const products = this.model.products(out, row, column);
    const window = this.hover ? [this.hover]
      : products.filter((p) => p.channel === channel).map((p) => [p.row, p.column]);
    const reach = this.hover ? this.reachOf(this.hover) : [];
    this.input.draw({ rows: height.padded, columns: width.padded, origin: [-height.before, -width.before], window,
      value: (r, c) => this.model.cell(channel, r, c), isPadding: (r, c) => r < 0 || c < 0 || r >= h || c >= w });
    this.filter.draw({ rows: height.kernel, columns: width.kernel, room: 160,
      value: (r, c) => this.model.weightAt(out, inner, r, c) });
    this.output.draw({ rows: height.output, columns: width.output, window: this.hover ? [] : [[row, column]], reach,
      value: this.tooMuch ? () => 0 : (r, c) => this.model.at(out, r, c) });
    this.speak(channel, products, reach);
  }

  reachOf([row, column]) {
    const columns = this.model.reached(1, column);
    return this.model.reached(0, row).flatMap((r) => columns.map((c) => [r, c]));
  }

  speak(channel, products, reach) {
    const { out, row, column } = this.at;
    const bias = this.model.bias ? this.model.bias[out] : 0;
    const total = products.reduce((sum, p) => sum + p.product, bias);
    if (this.hover) {
      this.sum.textContent = `Input row ${this.hover[0]}, column ${this.hover[1]} reaches ${reach.length} outputs of `
        + "each output channel of its group (dashed).";
    } else {
      const where = `Output channel ${out}, row ${row}, column ${column}`;
      this.sum.textContent = `${where} = bias ${short(bias)} + ${products.length} products = ${short(total)}.`
        + (this.tooMuch ? " (The output picture is left blank: the layer is too large to compute in a page.)" : "");
    }
    const first = products.slice(0, 512);
    this.words.replaceChildren(
      table(`What makes output channel ${out}, row ${row}, column ${column}`
        + (first.length < products.length ? ` (the first ${first.length} of ${products.length} products)` : ""),
      ["input channel", "row", "column", "cell", "weight", "product"],
      first.map((p) => [p.channel, p.row, p.column, p.value, p.weight, p.product])),
      table("Sizes", ["axis", "image", "padded", "kernel spans", "stride", "output"],
        this.layer.axes.map((a) => [a.name, a.size, a.padded, a.extent, a.stride, a.output])));
    this.input.say(`Padded input, channel ${channel}: ${this.layer.axes[0].padded} rows, ${this.layer.axes[1].padded} `
      + "columns; hatched cells are padding");
    this.output.say(`Output channel ${out}; ${this.sum.textContent}`);
  }
}
