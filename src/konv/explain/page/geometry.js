// The size arithmetic that a live page cannot ask Python for; a test ties every function here to konv's geometry.

const INVALID = (message) => ({ error: message });

// Cells added before and after one axis. `padding` is a word or [before, after].
function padsOf(padding, size, kernel, stride, dilation) {
  if (Array.isArray(padding)) return padding;
  if (padding === "valid") return [0, 0];
  const outputs = Math.ceil(size / stride);
  const total = Math.max((outputs - 1) * stride + dilation * (kernel - 1) + 1 - size, 0);
  const half = Math.floor(total / 2);
  return padding === "same_lower" ? [total - half, half] : [half, total - half];
}

// Where a padded index lies in the image, or -1 for a zero.
function sourceIndex(index, size, mode) {
  if (index >= 0 && index < size) return index;
  if (mode === "reflect") return index < 0 ? -index : 2 * (size - 1) - index;
  if (mode === "replicate") return index < 0 ? 0 : size - 1;
  if (mode === "circular") return index < 0 ? index + size : index - size;
  return -1;
}

// Everything about one axis of a layer, or {error}.
function axisOf(name, size, kernel, stride, dilation, padding, mode) {
  const [before, after] = padsOf(padding, size, kernel, stride, dilation);
  const extent = dilation * (kernel - 1) + 1;
  const padded = size + before + after;
  const most = { reflect: size - 1, circular: size }[mode];
  if (most !== undefined && Math.max(before, after) > most)
    return INVALID(`${mode} padding can add at most ${most} cells to a ${name} of ${size}`);
  if (padded < extent)
    return INVALID(`the kernel spans ${extent} cells, the padded ${name} is only ${padded}: pad more or dilate less`);
  const output = Math.floor((padded - extent) / stride) + 1;
  return { name, size, kernel, stride, dilation, before, after, extent, padded, output,
    unused: (padded - extent) % stride };
}

function formulaOf(axis) {
  const { name, size, before, after, dilation, kernel, stride, output } = axis;
  const padded = `${size} + ${before} + ${after}`;
  return `${name}: floor((${padded} - ${dilation}*(${kernel} - 1) - 1) / ${stride}) + 1 = ${output}`;
}

// {axes: [height, width], ...} for the options of a Conv2d, or {error}.
function layerOf(options) {
  const { inChannels, outChannels, groups, kernel, stride, dilation, padding, mode, size } = options;
  for (const [name, value] of [["in_channels", inChannels], ["out_channels", outChannels]])
    if (value % groups) return INVALID(`${name}=${value} is not divisible by groups=${groups}`);
  if (padding === "same" && (stride[0] > 1 || stride[1] > 1))
    return INVALID("padding='same' keeps the size, so it needs stride 1; same_upper and same_lower take any stride");
  const axes = ["height", "width"].map((name, i) =>
    axisOf(name, size[i], kernel[i], stride[i], dilation[i], Array.isArray(padding) ? padding[i] : padding, mode));
  const failed = axes.find((axis) => axis.error);
  if (failed) return failed;
  const perGroup = inChannels / groups;
  const weights = outChannels * perGroup * kernel[0] * kernel[1];
  return { axes, perGroup, outPerGroup: outChannels / groups, weights,
    parameters: weights + (options.bias ? outChannels : 0),
    multiplyAdds: axes[0].output * axes[1].output * weights };
}

// The line of Python to copy: only what differs from the defaults is written.
function pythonOf(options) {
  const both = ([h, w]) => (h === w ? `${h}` : `(${h}, ${w})`);
  const parts = [options.inChannels, options.outChannels, both(options.kernel)];
  const add = (name, value, usual) => value !== usual && parts.push(`${name}=${value}`);
  add("stride", both(options.stride), "1");
  add("padding", paddingText(options.padding), "0");
  add("dilation", both(options.dilation), "1");
  add("groups", options.groups, 1);
  if (!options.bias) parts.push("bias=False");
  if (options.mode !== "zeros") parts.push(`padding_mode="${options.mode}"`);
  return `konv.nn.Conv2d(${parts.join(", ")})`;
}

function paddingText(padding) {
  if (!Array.isArray(padding)) return `"${padding}"`;
  const [[top, bottom], [left, right]] = padding;
  if (top !== bottom || left !== right) return `((${top}, ${bottom}), (${left}, ${right}))`;
  return top === left ? `${top}` : `(${top}, ${left})`;
}
