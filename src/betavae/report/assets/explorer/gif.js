// Writes an animated GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt
"use strict";

const FRAME_CENTISECONDS = 6;

// Frames are pixels (y, x, channel) in [0, 1]; each pixel becomes a square of `scale` pixels.
function encodeGif(frames, width, height, channels, scale) {
  const levels = channels === 1 ? [128] : [4, 8, 4]; // of each channel; 128 colours in all
  const word = (value) => [value & 255, value >> 8];
  const [wide, high] = [width * scale, height * scale];
  const bytes = [..."GIF89a"].map((letter) => letter.charCodeAt(0));
  bytes.push(...word(wide), ...word(high), 0xf6, 0, 0, ...palette(levels));
  bytes.push(0x21, 0xff, 11, ...[..."NETSCAPE2.0"].map((letter) => letter.charCodeAt(0)), 3, 1, 0, 0, 0); // for ever
  for (const frame of frames) {
    bytes.push(0x21, 0xf9, 4, 0, ...word(FRAME_CENTISECONDS), 0, 0, 0x2c, 0, 0, 0, 0, ...word(wide), ...word(high), 0, 7);
    const coded = compress(enlarge(indices(frame, levels), width, height, scale));
    for (let at = 0; at < coded.length; at += 255) {
      const block = coded.slice(at, at + 255);
      bytes.push(block.length, ...block);
    }
    bytes.push(0);
  }
  return Uint8Array.from([...bytes, 0x3b]);
}

function palette(levels) {
  const colours = [];
  for (let n = 0; n < 128; n++) {
    let rest = n;
    const colour = [...levels].reverse().map((count) => {
      const level = rest % count;
      rest = Math.floor(rest / count);
      return Math.round((255 * level) / (count - 1));
    }).reverse();
    colours.push(...(colour.length === 1 ? [colour[0], colour[0], colour[0]] : colour));
  }
  return colours;
}

function indices(frame, levels) {
  const result = new Uint8Array(frame.length / levels.length);
  for (let i = 0; i < result.length; i++) {
    let index = 0;
    levels.forEach((count, c) => (index = index * count + Math.round(frame[i * levels.length + c] * (count - 1))));
    result[i] = index;
  }
  return result;
}

function enlarge(pixels, width, height, scale) {
  const result = new Uint8Array(pixels.length * scale * scale);
  for (let i = 0; i < result.length; i++) {
    const x = i % (width * scale), y = Math.floor(i / (width * scale));
    result[i] = pixels[Math.floor(y / scale) * width + Math.floor(x / scale)];
  }
  return result;
}

// LZW for seven bits a pixel.
function compress(pixels) {
  const CLEAR = 128, END = 129, MOST = 4096;
  const bytes = [];
  let table = new Map(), next = END + 1, size = 8, buffer = 0, bits = 0;
  function emit(code) {
    buffer |= code << bits;
    for (bits += size; bits >= 8; bits -= 8) {
      bytes.push(buffer & 255);
      buffer >>>= 8;
    }
  }
  emit(CLEAR);
  let prefix = pixels[0];
  for (let i = 1; i < pixels.length; i++) {
    const key = prefix * 256 + pixels[i], known = table.get(key);
    if (known !== undefined) {
      prefix = known;
      continue;
    }
    emit(prefix);
    if (next < MOST) {
      if (next === 1 << size) size++;
      table.set(key, next++);
    } else {
      emit(CLEAR);
      [table, next, size] = [new Map(), END + 1, 8];
    }
    prefix = pixels[i];
  }
  emit(prefix);
  emit(END);
  if (bits) bytes.push(buffer & 255);
  return bytes;
}
