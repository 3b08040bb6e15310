// Numbers for the pictures: the layer's own when the page carries them, else small repeating patterns.

const pattern = (i) => (((i * 7919) % 23) - 11) / 11;

// Flat array of n numbers: `given` where it has exactly n, else the pattern.
function numbersOf(given, n, shift) {
  if (given && given.length === n) return given;
  return Float64Array.from({ length: n }, (_, i) => pattern(i + shift));
}

// x: (C, H, W), weight: (O, C/groups, kh, kw), bias: (O) as flat arrays, with the layer's derived sizes.
class Convolution {
  constructor(options, layer, given) {
    this.options = options;
    this.layer = layer;
    const [h, w] = options.size;
    const own = given && given.weight_shape && layer.weights === given.weight.length
      && String(given.weight_shape) === String([options.outChannels, layer.perGroup, ...options.kernel]);
    this.x = numbersOf(given && given.input, options.inChannels * h * w, 3);
    this.weight = numbersOf(own ? given.weight : null, layer.weights, 0);
    this.bias = options.bias ? numbersOf(own ? given.bias : null, options.outChannels, 5) : null;
    this.planes = new Map();
  }

  // Value of padded cell (row, column) of a channel; row and column count from the image's own first cell.
  cell(channel, row, column) {
    const [h, w] = this.options.size;
    const r = sourceIndex(row, h, this.options.mode);
    const c = sourceIndex(column, w, this.options.mode);
    return r < 0 || c < 0 ? 0 : this.x[(channel * h + r) * w + c];
  }

  weightAt(out, inner, kh, kw) {
    const [rows, columns] = this.options.kernel;
    return this.weight[((out * this.layer.perGroup + inner) * rows + kh) * columns + kw];
  }

  firstChannel(out) {
    return Math.floor(out / this.layer.outPerGroup) * this.layer.perGroup;
  }

  // The products whose sum, with the bias, is output (out, row, column).
  products(out, row, column) {
    const [height, width] = this.layer.axes;
    const first = this.firstChannel(out);
    const list = [];
    for (let i = 0; i < this.layer.perGroup; i++)
      for (let kh = 0; kh < height.kernel; kh++)
        for (let kw = 0; kw < width.kernel; kw++) {
          const r = row * height.stride - height.before + kh * height.dilation;
          const c = column * width.stride - width.before + kw * width.dilation;
          const value = this.cell(first + i, r, c);
          const weight = this.weightAt(out, i, kh, kw);
          list.push({ channel: first + i, row: r, column: c, kh, kw, value, weight, product: value * weight });
        }
    return list;
  }

  at(out, row, column) {
    return this.plane(out)[row * this.layer.axes[1].output + column];
  }

  // The whole output channel, computed once.
  plane(out) {
    if (!this.planes.has(out)) this.planes.set(out, this.compute(out));
    return this.planes.get(out);
  }

  compute(out) {
    const [height, width] = this.layer.axes;
    const result = new Float64Array(height.output * width.output);
    const first = this.firstChannel(out);
    const start = this.bias ? this.bias[out] : 0;
    for (let row = 0, at = 0; row < height.output; row++)
      for (let column = 0; column < width.output; column++, at++) {
        let sum = start;
        for (let i = 0; i < this.layer.perGroup; i++)
          for (let kh = 0; kh < height.kernel; kh++) {
            const r = row * height.stride - height.before + kh * height.dilation;
            for (let kw = 0; kw < width.kernel; kw++) {
              const c = column * width.stride - width.before + kw * width.dilation;
              sum += this.cell(first + i, r, c) * this.weightAt(out, i, kh, kw);
            }
          }
        result[at] = sum;
      }
    return result;
  }

  // Output rows (or columns) whose window reads image index `index` of an axis, padding that repeats it included.
  reached(axisNumber, index) {
    const axis = this.layer.axes[axisNumber];
    const found = [];
    for (let o = 0; o < axis.output; o++)
      for (let k = 0; k < axis.kernel; k++) {
        const read = sourceIndex(o * axis.stride - axis.before + k * axis.dilation, axis.size, this.options.mode);
        if (read === index) {
          found.push(o);
          break;
        }
      }
    return found;
  }
}
