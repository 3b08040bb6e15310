// The form with every parameter of Conv2d. It reads into and writes from plain options; it computes nothing.

const MODES = ["zeros", "reflect", "replicate", "circular"];
const WORDS = ["cells", "valid", "same", "same_upper", "same_lower"];

function numberField(text, value, least, most, change) {
  const number = el("input", { type: "number", min: least, max: most, step: 1, value });
  const slider = el("input", { type: "range", min: least, max: Math.min(most, Math.max(16, 2 * value)), value,
    "aria-label": `${text}, slider` });
  const take = (from, other) => () => {
    const wanted = Math.round(Number(from.value));
    if (!Number.isFinite(wanted) || from.value === "") return;
    const kept = Math.min(most, Math.max(least, wanted));
    if (kept > Number(slider.max)) slider.max = kept;
    other.value = kept;
    change(kept);
  };
  number.addEventListener("input", take(number, slider));
  slider.addEventListener("input", take(slider, number));
  return el("span", { class: "field" }, labelled(text, number), slider);
}

function choice(text, names, chosen, change) {
  const options = names.map((name) => el("option", { value: name, selected: name === chosen }, name));
  const select = el("select", {}, ...options);
  select.addEventListener("input", () => change(select.value));
  return labelled(text, select);
}

function group(title, ...fields) {
  return el("fieldset", {}, el("legend", {}, title), ...fields);
}

function pairGroup(title, values, least, most, change) {
  const one = (axis) => numberField(["height", "width"][axis], values[axis], least, most, (value) => {
    values[axis] = value;
    change();
  });
  return group(title, one(0), one(1));
}

function paddingGroup(options, change) {
  const cells = el("span", {});
  const sides = [["top", 0, 0], ["bottom", 0, 1], ["left", 1, 0], ["right", 1, 1]];
  const show = () => {
    cells.replaceChildren();
    if (!Array.isArray(options.padding)) return;
    for (const [name, axis, end] of sides)
      cells.append(numberField(name, options.padding[axis][end], 0, 64, (value) => {
        options.padding[axis][end] = value;
        change();
      }));
  };
  const word = Array.isArray(options.padding) ? "cells" : options.padding;
  const pick = choice("padding", WORDS, word, (chosen) => {
    options.padding = chosen === "cells" ? [[0, 0], [0, 0]] : chosen;
    show();
    change();
  });
  const mode = choice("padding_mode", MODES, options.mode, (chosen) => {
    options.mode = chosen;
    change();
  });
  show();
  return group("padding", pick, mode, cells);
}

function controls(options, change) {
  const set = (name) => (value) => {
    options[name] = value;
    change();
  };
  const bias = el("input", { type: "checkbox", checked: options.bias });
  bias.addEventListener("input", () => set("bias")(bias.checked));
  return el("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
    group("channels", numberField("in_channels", options.inChannels, 1, 4096, set("inChannels")),
      numberField("out_channels", options.outChannels, 1, 4096, set("outChannels")),
      numberField("groups", options.groups, 1, 4096, set("groups")), labelled("bias", bias)),
    pairGroup("kernel_size", options.kernel, 1, 31, change),
    pairGroup("stride", options.stride, 1, 16, change),
    pairGroup("dilation", options.dilation, 1, 16, change),
    paddingGroup(options, change),
    pairGroup("input size", options.size, 1, 1024, change));
}
