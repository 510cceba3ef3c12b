// Runs networks as `explorer.py` packs them: decoders, and encoders where they fit.
//
// Every operation takes and gives the values of an image, channel-last (y, x, channel), in one Float32Array. All time
// goes into convolutions. Those run in WebAssembly, four numbers at once, from code that is written out below; where
// the browser has none, the same loops run in JavaScript. No library, no network, no build step.
"use strict";

// Makes a function from input to output values; the output may be overwritten by the next call.
function readNetwork(packed) {
  const weights = readWeights(packed), machine = makeMachine();
  let at = 0;
  const take = (count) => weights.subarray(at, (at += count));
  const read = (layers) => layers.map((layer) => readLayer(layer, take, read, machine));
  const run = chain(read(packed.layers));
  return (values) => run(Float32Array.from(values));
}

function readWeights({ type, weights }) {
  const letters = atob(weights), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  const { buffer } = bytes;
  if (type === "float32") return new Float32Array(buffer);
  const table = Float32Array.from({ length: 65536 }, (_, bits) => {
    const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
  });
  const halves = new Uint16Array(buffer), singles = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) singles[i] = table[halves[i]];
  return singles;
}

function chain(operations) {
  return (values) => operations.reduce((current, operation) => operation(current), values);
}

function readLayer(layer, take, read, machine) {
  switch (layer.op) {
    case "conv":
      return convolution(layer, take, machine);
    case "relu":
      return (values) => {
        for (let i = 0; i < values.length; i++) if (values[i] < 0) values[i] = 0;
        return values;
      };
    case "tanh":
      return (values) => {
        for (let i = 0; i < values.length; i++) values[i] = Math.tanh(values[i]);
        return values;
      };
    case "affine": {
      const { channels } = layer, scale = take(channels), shift = take(channels);
      return (values) => {
        for (let at = 0; at < values.length; at += channels) {
          for (let c = 0; c < channels; c++) values[at + c] = values[at + c] * scale[c] + shift[c];
        }
        return values;
      };
    }
    case "residual": {
      const inner = chain(read(layer.layers));
      return (values) => {
        const kept = values.slice(), result = inner(values);
        for (let i = 0; i < result.length; i++) result[i] += kept[i];
        return result;
      };
    }
    case "place":
      return placement(layer, chain(read(layer.draw)), chain(read(layer.map)), take);
    default:
      throw new Error(`unknown operation ${layer.op}`);
  }
}

// The image that an affine map makes of a picture, both drawn from the same values; see AffinePicture in model.py.
function placement({ picture: [high, wide, channels], output: [height, width] }, draw, map, take) {
  const blob = take(high * wide), background = take(channels);
  const image = new Float32Array(height * width * channels), picture = new Float32Array(high * wide * channels);
  return (values) => {
    const [xx, xy, yx, yy, shiftX, shiftY] = map(values);
    picture.set(draw(values));
    for (let i = 0; i < picture.length; i++) picture[i] += blob[Math.floor(i / channels)];
    for (let row = 0, at = 0; row < height; row++) {
      for (let column = 0; column < width; column++, at += channels) {
        const x = (2 * column + 1) / width - 1, y = (2 * row + 1) / height - 1;
        const across = (((2 + xx) * x + xy * y + shiftX + 1) * wide - 1) / 2;
        const down = ((yx * x + (2 + yy) * y + shiftY + 1) * high - 1) / 2;
        const i = Math.floor(down), j = Math.floor(across);
        for (let c = 0; c < channels; c++) image[at + c] = background[c];
        for (const [y, x, share] of [
          [i, j, (1 - down + i) * (1 - across + j)], [i, j + 1, (1 - down + i) * (across - j)],
          [i + 1, j, (down - i) * (1 - across + j)], [i + 1, j + 1, (down - i) * (across - j)],
        ]) {
          if (y < 0 || y >= high || x < 0 || x >= wide) continue;
          for (let c = 0; c < channels; c++) image[at + c] += share * picture[(y * wide + x) * channels + c];
        }
      }
    }
    return image;
  };
}

// ---------------------------------------------------------------------------------------------------------------------
// Convolutions: plain, transposed, and fully connected ones as those over a single pixel
// ---------------------------------------------------------------------------------------------------------------------

// What the inner loop sums at once: so many output pixels by so many vectors of four output channels.
const MANY = { name: "many", pixels: 4, vectors: 1 }; // for images
const ONE = { name: "one", pixels: 1, vectors: 4 }; // for a single pixel

const roundUp = (value, multiple) => Math.ceil(value / multiple) * multiple;

// Inputs and outputs are padded with zeros to the channels that the inner loop takes at once. Behind the input's last
// pixel stands one of zeros: what lies outside of the image.
function convolution(layer, take, machine) {
  const [inHeight, inWidth, inputs] = layer.input, [height, width, outputs] = layer.output;
  const shape = height * width === 1 ? ONE : MANY, lanes = 4 * shape.vectors;
  const inputStride = roundUp(inputs, 4), outputStride = roundUp(outputs, lanes);
  const kernel = take(layer.kernel ** 2 * outputs * inputs), bias = take(outputs);
  const input = machine.reserve((inHeight * inWidth + 1) * inputStride);
  const output = machine.reserve((height * width + shape.pixels) * outputStride);
  const biases = machine.reserve(outputStride);
  machine.floats(biases, outputStride).set(bias);

  const groups = groupPixels(layer).map(({ taps, pixels, sources }) => {
    const size = taps.length * inputStride * outputStride, weights = machine.reserve(size);
    const ordered = machine.floats(weights, size); // (outputs / lanes, taps, inputs, lanes)
    for (let out = 0, to = 0; out < outputs; out += lanes) {
      const used = Math.min(lanes, outputs - out);
      for (const tap of taps) {
        const first = (tap * outputs + out) * inputs;
        for (let i = 0; i < inputStride; i++, to += lanes) {
          if (i < inputs) for (let lane = 0; lane < used; lane++) ordered[to + lane] = kernel[first + lane * inputs + i];
        }
      }
    }
    // Addresses, for as many pixels at once as the inner loop takes; what is left over goes behind the last pixel.
    const blocks = Math.ceil(pixels.length / shape.pixels);
    const from = machine.reserve(blocks * taps.length * shape.pixels), to = machine.reserve(blocks * shape.pixels);
    const reads = machine.integers(from, blocks * taps.length * shape.pixels);
    const writes = machine.integers(to, blocks * shape.pixels);
    for (let i = 0, at = 0; i < blocks * shape.pixels; i += shape.pixels) {
      for (let p = 0; p < shape.pixels; p++) writes[i + p] = output + 4 * outputStride * (pixels[i + p] ?? height * width);
      for (let t = 0; t < taps.length; t++) {
        for (let p = 0; p < shape.pixels; p++) {
          reads[at++] = input + 4 * inputStride * (sources[i + p]?.[t] ?? inHeight * inWidth);
        }
      }
    }
    return { weights, from, to, end: to + 4 * writes.length, taps: taps.length };
  });

  return (values) => {
    spread(values, inputs, machine.floats(input, inHeight * inWidth * inputStride), inputStride);
    for (const { weights, from, to, end, taps } of groups) {
      const size = taps * inputStride * lanes;
      for (let block = 0; block * lanes < outputStride; block++) {
        const place = 4 * block * lanes;
        machine.convolve[shape.name](
          from, to, end, 4 * shape.pixels * taps, 4 * inputStride, weights + 4 * block * size, biases + place, place,
        );
      }
    }
    const result = machine.floats(output, height * width * outputStride);
    if (height * width === 1) return result.subarray(0, outputs);
    return outputs === outputStride ? result : spread(result, outputStride, new Float32Array(height * width * outputs), outputs);
  };
}

// Copies pixels from one number of channels to another.
function spread(values, channels, target, stride) {
  if (channels === stride) target.set(values);
  else {
    const shared = Math.min(channels, stride), pixels = values.length / channels;
    for (let p = 0; p < pixels; p++) {
      for (let c = 0; c < shared; c++) target[p * stride + c] = values[p * channels + c];
    }
  }
  return target;
}

// Output pixels that use the same places of the kernel ("taps") form a group: one for a plain convolution, stride x
// stride for a transposed one. With each output pixel go the input pixels that it is made from, undefined where they
// lie outside.
function groupPixels({ input, output, kernel, stride, padding, transposed }) {
  const groups = new Map(), places = [...Array(kernel).keys()];
  const source = (to, tap) => (transposed ? (to + padding - tap) / stride : to * stride - padding + tap);
  const used = (to) => places.filter((tap) => Number.isInteger(source(to, tap)));
  const inside = (place, size) => place >= 0 && place < size;
  for (let y = 0; y < output[0]; y++) {
    for (let x = 0; x < output[1]; x++) {
      const pairs = used(y).flatMap((ky) => used(x).map((kx) => [ky, kx]));
      const name = pairs.join();
      if (!groups.has(name)) {
        groups.set(name, { taps: pairs.map(([ky, kx]) => ky * kernel + kx), pixels: [], sources: [] });
      }
      const group = groups.get(name);
      group.pixels.push(y * output[1] + x);
      group.sources.push(
        pairs.map(([ky, kx]) => {
          const row = source(y, ky), column = source(x, kx);
          return inside(row, input[0]) && inside(column, input[1]) ? row * input[1] + column : undefined;
        }),
      );
    }
  }
  return [...groups.values()];
}

// ---------------------------------------------------------------------------------------------------------------------
// The machine: memory, and the inner loops on it
// ---------------------------------------------------------------------------------------------------------------------

const PAGE = 65536; // bytes by which WebAssembly's memory grows

function makeMachine() {
  let memory, convolve;
  try {
    memory = new WebAssembly.Memory({ initial: 1 });
    const module = new WebAssembly.Module(assemble([MANY, ONE]));
    convolve = new WebAssembly.Instance(module, { page: { memory } }).exports;
  } catch {
    // No WebAssembly, or one without vectors of four numbers.
    memory = {
      buffer: new ArrayBuffer(PAGE),
      grow(pages) {
        const before = new Uint8Array(this.buffer);
        this.buffer = new ArrayBuffer(before.length + pages * PAGE);
        new Uint8Array(this.buffer).set(before);
      },
    };
    convolve = Object.fromEntries([MANY, ONE].map((shape) => [shape.name, convolveInScript(memory, shape)]));
  }
  let free = 0;
  return {
    convolve,
    floats: (address, count) => new Float32Array(memory.buffer, address, count),
    integers: (address, count) => new Int32Array(memory.buffer, address, count),
    reserve(count) {
      const address = free;
      free += roundUp(4 * count, 16);
      const missing = Math.ceil((free - memory.buffer.byteLength) / PAGE);
      if (missing > 0) memory.grow(missing);
      return address;
    },
  };
}

// One block of output channels, for all pixels of a group. `from` and `to` are addresses of lists of addresses: where
// the pixels of each tap begin, and where those of the output do. All sizes are in bytes.
function convolveInScript(memory, { pixels, vectors }) {
  const lanes = 4 * vectors;
  return (from, to, end, tapBytes, inputBytes, weights, bias, place) => {
    const values = new Float32Array(memory.buffer), addresses = new Int32Array(memory.buffer);
    for (let source = from / 4, target = to / 4; target < end / 4; source += tapBytes / 4, target += pixels) {
      for (let part = 0; part < pixels * lanes; part += 4) {
        const p = Math.floor(part / lanes), lane = part % lanes, first = bias / 4 + lane;
        let a = values[first], b = values[first + 1], c = values[first + 2], d = values[first + 3];
        let weight = weights / 4 + lane;
        for (let tap = source; tap < source + tapBytes / 4; tap += pixels) {
          const input = addresses[tap + p] / 4;
          for (let i = input; i < input + inputBytes / 4; i++, weight += lanes) {
            const value = values[i];
            a += value * values[weight]; b += value * values[weight + 1];
            c += value * values[weight + 2]; d += value * values[weight + 3];
          }
        }
        values.set([a, b, c, d], (addresses[target + p] + place) / 4 + lane);
      }
    }
  };
}

// The same loops as a WebAssembly module: a function for each shape, of the name of the shape.
// https://webassembly.github.io/spec/core/binary/
function assemble(shapes) {
  const I32 = 0x7f, V128 = 0x7b;
  const number = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...number(value >> 7)]);
  const text = (value) => [value.length, ...[...value].map((letter) => letter.charCodeAt(0))];
  const section = (id, ...items) => [id, ...sized([items.length, ...items.flat()])];
  const sized = (bytes) => [...number(bytes.length), ...bytes];
  const type = [0x60, 8, ...Array(8).fill(I32), 0];
  const memory = [...text("page"), ...text("memory"), 2, 0, 1];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "\0asm", version 1
    ...section(1, type),
    ...section(2, memory),
    ...section(3, ...shapes.map(() => [0])),
    ...section(7, ...shapes.map(({ name }, i) => [...text(name), 0, i])),
    ...section(10, ...shapes.map((shape) => sized(body(shape)))),
  ]);

  function body({ pixels, vectors }) {
    const [from, to, end, tapBytes, inputBytes, weights, bias, place, last, weight, limit] = Array(11).keys();
    const address = (p) => 11 + p; // of the pixel's next input
    const factor = (v) => 11 + pixels + v; // weights of one input
    const sum = (p, v) => 11 + pixels + vectors + p * vectors + v;
    const each = (count, code) => Array.from({ length: count }, (_, i) => code(i)).flat();

    const get = (local) => [0x20, local];
    const set = (local, ...value) => [...value.flat(), 0x21, local];
    const add = (a, b) => [...a, ...b, 0x6a];
    const advance = (local, bytes) => set(local, add(get(local), [0x41, ...signed(bytes)]));
    const signed = (value) => (value < 64 ? [value] : [(value & 127) | 128, value >> 7]);
    const load = (at, offset) => [...at, 0x28, 2, ...number(offset)];
    const loadVector = (at, offset) => [...at, 0xfd, 0, 2, ...number(offset)];
    const loadFourTimes = (at, offset) => [...at, 0xfd, 9, 2, ...number(offset)]; // one number, in all four places
    const storeVector = (at, offset, value) => [...at, ...value, 0xfd, 11, 2, ...number(offset)];
    const addVectors = (a, b) => [...a, ...b, 0xfd, ...number(0xe4)];
    const multiplyVectors = (a, b) => [...a, ...b, 0xfd, ...number(0xe6)];
    const loopWhileBelow = (local, bound, ...code) => [0x03, 0x40, ...code.flat(), ...get(local), ...get(bound), 0x49, 0x0d, 0, 0x0b];

    return [
      ...[2, ...number(3 + pixels), I32, ...number(vectors + pixels * vectors), V128], // locals after the parameters
      ...loopWhileBelow(
        to, end,
        each(pixels, (p) => each(vectors, (v) => set(sum(p, v), loadVector(get(bias), 16 * v)))),
        set(weight, get(weights)),
        set(last, add(get(from), get(tapBytes))),
        loopWhileBelow(
          from, last,
          each(pixels, (p) => set(address(p), load(get(from), 4 * p))),
          advance(from, 4 * pixels),
          set(limit, add(get(address(0)), get(inputBytes))),
          loopWhileBelow(
            address(0), limit,
            each(4, (i) => [
              ...each(vectors, (v) => set(factor(v), loadVector(get(weight), 16 * (i * vectors + v)))),
              ...each(pixels, (p) =>
                each(vectors, (v) => {
                  const product = multiplyVectors(loadFourTimes(get(address(p)), 4 * i), get(factor(v)));
                  return set(sum(p, v), addVectors(get(sum(p, v)), product));
                }),
              ),
            ]),
            each(pixels, (p) => advance(address(p), 16)),
            advance(weight, 64 * vectors),
          ),
        ),
        each(pixels, (p) =>
          each(vectors, (v) => storeVector(add(load(get(to), 4 * p), get(place)), 16 * v, get(sum(p, v)))),
        ),
        advance(to, 4 * pixels),
      ),
      0x0b,
    ];
  }
}
