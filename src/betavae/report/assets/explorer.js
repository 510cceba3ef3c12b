// The explorer of a report: runs the decoder (and the encoder, where it is embedded) of a β-VAE in the page.
//
// What one sees and moves; `networks.js` does the computing. The page holds the data in a JSON element and all markup in
// the template; this file only fills it with life. No library, no network, no build step.
"use strict";

const PERIOD_SECONDS = 4; // of an animated latent, there and back
const MAP_CELLS = 7; // decoded images along a side of the pad
const MAP_DELAY = 250; // milliseconds of rest before the pad's images are decoded
const PEN_RADIUS = 0.04; // of the image's width
const KEY_STEP = 0.02; // of a latent's range, for the pad's arrow keys

function startExplorer(root, data) {
  const find = (selector) => root.querySelector(selector);
  const [channels, height, width] = data.image;
  const ranges = new Map(data.latents.map((latent) => [latent.index, latent]));
  const decoder = readNetwork(data.decoder);
  const encoder = data.encoder && readNetwork(data.encoder);
  const status = find("[data-status]");
  const say = (text) => (status.textContent = text);

  const start = new Float64Array(data.latents.length); // latents to which reset returns
  const latents = new Float64Array(data.latents.length);

  // --- Pictures -------------------------------------------------------------------------------------------------

  function decode(values) {
    const pixels = decoder(values);
    for (let i = 0; i < pixels.length; i++) {
      pixels[i] = data.likelihood === "bernoulli" ? 1 / (1 + Math.exp(-pixels[i])) : Math.min(Math.max(pixels[i], 0), 1);
    }
    return pixels;
  }

  function encode(pixels) {
    return encoder(pixels).slice(0, latents.length);
  }

  function draw(canvas, pixels) {
    const image = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = Math.round(255 * pixels[i * channels + (c % channels)]);
      image.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function readPixels(canvas) {
    const { data: bytes } = canvas.getContext("2d").getImageData(0, 0, width, height);
    const pixels = new Float32Array(width * height * channels);
    for (let i = 0; i < width * height; i++) {
      const [red, green, blue] = [bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2]];
      if (channels === 1) pixels[i] = (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
      else pixels.set([red / 255, green / 255, blue / 255], 3 * i);
    }
    return pixels;
  }

  find("[data-original]").getContext("2d", { willReadFrequently: true });
  const decoded = find("[data-decoded]"), original = find("[data-original]"), rebuilt = find("[data-rebuilt]");

  // --- Frames: however many events arrive, a frame decodes once ---------------------------------------------------

  let scheduled = false, drawn = false; // `drawn`: the original was drawn on and is to be encoded

  function change() {
    if (!scheduled) requestAnimationFrame(frame);
    scheduled = true;
  }

  function frame(now) {
    scheduled = false;
    if (drawn) {
      drawn = false;
      begin(encode(readPixels(original)));
    }
    if (playing) advance(now);
    draw(decoded, decode(latents));
    for (const slider of sliders) slider.show();
    if (pad) pad.show();
  }

  // --- Sliders ----------------------------------------------------------------------------------------------------

  const format = (value) => value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−");
  const clamp = (fraction) => Math.min(Math.max(fraction, 0), 1);
  const span = (index) => ranges.get(index).high - ranges.get(index).low;
  const share = (index, value) => (value - ranges.get(index).low) / span(index);

  function makeSlider(row) {
    const index = Number(row.dataset.latent);
    const input = row.querySelector("input"), output = row.querySelector("output"), play = row.querySelector("button");
    input.addEventListener("input", () => {
      if (playing?.index === index) stop();
      latents[index] = Number(input.value);
      change();
    });
    input.addEventListener("dblclick", () => {
      latents[index] = start[index];
      change();
    });
    play.addEventListener("click", () => (playing?.index === index ? stop() : startPlaying(index, play)));
    return {
      show() {
        const text = format(latents[index]);
        if (output.textContent === text) return;
        output.textContent = text;
        input.value = latents[index];
        input.setAttribute("aria-valuetext", text);
      },
      mark() {
        row.style.setProperty("--start", clamp(share(index, start[index])));
      },
    };
  }

  const sliders = [...root.querySelectorAll("[data-latent]")].map(makeSlider);

  // --- Animation --------------------------------------------------------------------------------------------------

  let playing = null;

  function startPlaying(index, button) {
    stop();
    const phase = Math.asin(2 * clamp(share(index, latents[index])) - 1);
    playing = { index, button, phase, since: performance.now() };
    button.setAttribute("aria-pressed", "true");
    change();
  }

  function stop() {
    playing?.button.setAttribute("aria-pressed", "false");
    playing = null;
  }

  function advance(now) {
    const angle = playing.phase + (2 * Math.PI * Math.max(now - playing.since, 0)) / 1000 / PERIOD_SECONDS;
    latents[playing.index] = ranges.get(playing.index).low + (span(playing.index) * (1 + Math.sin(angle))) / 2;
    change();
  }

  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape") stop();
  });

  let held = false; // a pointer is down: something may be dragged
  root.addEventListener("pointerdown", () => (held = true), { capture: true });
  for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => (held = false));

  // --- Pad: two latents at once, over a map of decoded images ---------------------------------------------------------

  function makePad(area) {
    const surface = area.querySelector("[data-surface]"), map = area.querySelector("canvas");
    const choices = [...area.querySelectorAll("select")];
    const cell = document.createElement("canvas");
    [cell.width, cell.height] = [width, height];
    let timer = 0, shown = "";

    const axes = () => choices.map((choice) => Number(choice.value));
    const place = (index, fraction) => {
      latents[index] = ranges.get(index).low + span(index) * clamp(fraction);
    };
    function move(x, y) {
      const [across, up] = axes();
      stop();
      if (x !== undefined) place(across, x);
      if (y !== undefined) place(up, y);
      change();
    }
    function point(event) {
      const box = surface.getBoundingClientRect();
      move((event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height);
    }
    surface.addEventListener("pointerdown", (event) => {
      surface.setPointerCapture(event.pointerId);
      point(event);
    });
    surface.addEventListener("pointermove", (event) => surface.hasPointerCapture(event.pointerId) && point(event));
    surface.addEventListener("keydown", (event) => {
      const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key] ?? [];
      if (dx === undefined) return;
      event.preventDefault();
      const [across, up] = axes();
      const step = event.shiftKey ? 5 * KEY_STEP : KEY_STEP;
      move(dx ? share(across, latents[across]) + step * dx : undefined, dy ? share(up, latents[up]) + step * dy : undefined);
      say(`z${across} ${format(latents[across])}, z${up} ${format(latents[up])}`);
    });
    choices.forEach((choice, i) =>
      choice.addEventListener("change", () => {
        const other = choices[1 - i];
        if (other.value === choice.value) {
          other.value = [...other.options].find((option) => option.value !== choice.value).value;
        }
        change();
      }),
    );

    // The map is decoded one image at a time, while nothing moves.
    function drawMap(number, point) {
      if (number === MAP_CELLS ** 2) return;
      const busy = playing || held;
      timer = setTimeout(() => drawMap(busy ? number : number + 1, point), busy ? MAP_DELAY : 0);
      if (busy) return;
      const column = number % MAP_CELLS, row = Math.floor(number / MAP_CELLS);
      const [across, up] = axes();
      point[across] = ranges.get(across).low + (span(across) * (column + 0.5)) / MAP_CELLS;
      point[up] = ranges.get(up).high - (span(up) * (row + 0.5)) / MAP_CELLS;
      draw(cell, decode(point));
      map.getContext("2d").drawImage(cell, column * width, row * height);
    }
    return {
      show() {
        const [across, up] = axes();
        surface.style.setProperty("--x", clamp(share(across, latents[across])));
        surface.style.setProperty("--y", clamp(share(up, latents[up])));
        const rest = [across, up, ...latents.map((value, i) => (i === across || i === up ? 0 : value))].join();
        if (rest === shown) return;
        shown = rest;
        clearTimeout(timer);
        timer = setTimeout(drawMap, MAP_DELAY, 0, Float64Array.from(latents));
      },
    };
  }

  const pad = find("[data-pad]") && makePad(find("[data-pad]"));

  // --- Where to start from ------------------------------------------------------------------------------------------

  const starts = [...root.querySelectorAll("[data-start]")];

  function begin(values) {
    stop();
    start.set(values);
    latents.set(values);
    for (const slider of sliders) slider.mark();
    draw(rebuilt, decode(start));
    change();
  }

  function press(button) {
    for (const each of starts) each.setAttribute("aria-pressed", String(each === button));
  }

  function startFrom(button) {
    press(button);
    const name = button.dataset.start;
    const image = button.querySelector("img");
    const context = original.getContext("2d");
    context.clearRect(0, 0, width, height);
    root.classList.toggle("without-original", !image);
    if (image) {
      const paint = () => context.drawImage(image, 0, 0, width, height);
      image.complete ? paint() : image.addEventListener("load", paint, { once: true });
    }
    if (name === "prior") begin(start.map(normal));
    else if (name === "zero") begin(start.map(() => 0));
    else begin(data.seeds[Number(name)]);
    say(image ? `Starting from ${image.alt}` : name === "prior" ? "A sample of the prior" : "All latents are 0");
  }

  function normal() {
    return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  }

  for (const button of starts) button.addEventListener("click", () => startFrom(button));

  // --- Drawing, and pictures from elsewhere ---------------------------------------------------------------------------

  function takeDrawing() {
    press(null);
    root.classList.remove("without-original");
    drawn = true;
    change();
  }

  async function openPicture(file) {
    let picture;
    try {
      picture = await createImageBitmap(file);
    } catch {
      return say(`${file.name} is no picture that this browser can read; try a PNG or JPEG`);
    }
    const context = original.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.drawImage(picture, 0, 0, width, height);
    takeDrawing();
    return say(`Encoded ${file.name}`);
  }

  function enableDrawing() {
    const context = original.getContext("2d");
    const erase = find("[data-erase]"), colour = find("[data-colour]");
    let from = null;
    const position = (event) => {
      const box = original.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
    };
    const stroke = (event) => {
      const to = position(event);
      context.strokeStyle = erase.getAttribute("aria-pressed") === "true" ? "#000" : (colour?.value ?? "#fff");
      context.lineWidth = 2 * PEN_RADIUS * width;
      context.lineCap = "round";
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.stroke();
      from = to;
      takeDrawing();
    };
    const blacken = () => {
      context.fillStyle = "#000";
      context.fillRect(0, 0, width, height);
    };
    original.addEventListener("pointerdown", (event) => {
      original.setPointerCapture(event.pointerId);
      if (root.classList.contains("without-original")) blacken();
      from = position(event);
      stroke(event);
    });
    original.addEventListener("pointermove", (event) => from && stroke(event));
    for (const name of ["pointerup", "pointercancel"]) original.addEventListener(name, () => (from = null));
    erase.addEventListener("click", () =>
      erase.setAttribute("aria-pressed", String(erase.getAttribute("aria-pressed") !== "true")),
    );
    find("[data-clear]").addEventListener("click", () => {
      blacken();
      takeDrawing();
    });
    const chooser = find("[data-file]");
    find("[data-open]").addEventListener("click", () => chooser.click());
    chooser.addEventListener("change", () => {
      if (chooser.files.length) openPicture(chooser.files[0]);
      chooser.value = "";
    });
    root.addEventListener("dragover", (event) => event.preventDefault());
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files.length) openPicture(event.dataTransfer.files[0]);
    });
  }

  if (encoder) enableDrawing();

  // --- Reset, copy, save ------------------------------------------------------------------------------------------------

  find("[data-reset]").addEventListener("click", () => {
    stop();
    latents.set(start);
    change();
    say("Latents are back where they started");
  });

  find("[data-copy]").addEventListener("click", async () => {
    const text = `[${Array.from(latents, (value) => value.toFixed(4)).join(", ")}]`;
    try {
      await navigator.clipboard.writeText(text);
      say(`Copied ${latents.length} ${latents.length === 1 ? "latent" : "latents"}`);
    } catch {
      say(text); // where the browser allows no copying, the numbers can be selected
    }
  });

  find("[data-save]").addEventListener("click", () => {
    const scale = Math.max(1, Math.round(512 / Math.max(width, height)));
    const large = document.createElement("canvas");
    [large.width, large.height] = [scale * width, scale * height];
    const context = large.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(decoded, 0, 0, large.width, large.height);
    large.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${data.name.replace(/[^\p{L}\p{N}._-]+/gu, "-")}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      say(`Saved ${link.download}`);
    });
  });

  startFrom(root.querySelector("[data-start='0']") ?? starts[0]);
  say("");
  // For the browser's console: betavae.decode([...]) gives pixels (y, x, channel) in [0, 1].
  window.betavae = { decode: (values) => decode(values).slice(), encode: encoder && encode, latents };
}

{
  const root = document.querySelector("[data-explorer]");
  const holder = document.querySelector("[data-explorer-data]");
  try {
    startExplorer(root, JSON.parse(holder.textContent));
    root.classList.add("ready");
  } catch (error) {
    root.querySelector("[data-status]").textContent = `The explorer cannot run in this browser: ${error.message}`;
    throw error;
  }
}
