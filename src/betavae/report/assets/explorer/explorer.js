// The explorer of a report: runs the decoder (and the encoder, where it is embedded) of a β-VAE in the page.
//
// What one sees and moves; `networks.js` does the computing. The page holds the data in a JSON element and all markup in
// the template; this file and the `explorer_*.js` only fill it with life. No library, no network, no build step.
"use strict";

const PERIOD_SECONDS = 4; // of an animated latent, there and back

function startExplorer(root, data) {
  const find = (selector) => root.querySelector(selector);
  const [channels, height, width] = data.image;
  const ranges = new Map(data.latents.map((latent) => [latent.index, latent]));
  const decoder = readNetwork(data.decoder);
  const encoder = data.encoder && readNetwork(data.encoder);
  const status = find("[data-status]");
  const start = new Float64Array(data.latents.length); // latents to which reset returns
  const latents = new Float64Array(data.latents.length);

  // A quiet text is for the eyes: what a slider says itself is not read out twice.
  function say(text, quiet = false) {
    status.setAttribute("aria-live", quiet ? "off" : "polite");
    status.textContent = text;
  }

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
  const followers = []; // functions that show the latents after each frame

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
    for (const show of followers) show();
  }

  // --- Latents as they are shown: with a sign that lets their factor grow to the right ----------------------------

  const format = (value) => value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−");
  const clamp = (fraction) => Math.min(Math.max(fraction, 0), 1);
  const shown = (index, value = latents[index]) => ranges.get(index).sign * value;
  const span = (index) => ranges.get(index).high - ranges.get(index).low;
  const share = (index, value) => {
    const fraction = (value - ranges.get(index).low) / span(index);
    return ranges.get(index).sign > 0 ? fraction : 1 - fraction;
  };
  const atShare = (index, fraction) => {
    const { low, sign } = ranges.get(index);
    return low + span(index) * (sign > 0 ? fraction : 1 - fraction);
  };
  const named = (index) => `${ranges.get(index).title} ${format(shown(index))}`;

  let moved = data.latents[0].index; // the latent that was moved last

  function makeSlider(row) {
    const index = Number(row.dataset.latent);
    const input = row.querySelector("input"), output = row.querySelector("output"), play = row.querySelector("button");
    input.addEventListener("input", () => {
      if (playing?.index === index) stop();
      latents[index] = shown(index, Number(input.value));
      moved = index;
      say(`${named(index)}; the other latents keep their values`, true);
      change();
    });
    input.addEventListener("dblclick", () => {
      latents[index] = start[index];
      say(`${named(index)}, as at the start`);
      change();
    });
    play.addEventListener("click", () => {
      if (playing?.index !== index) return startPlaying(index, play);
      stop();
      return say(`Stopped at ${named(index)}`);
    });
    followers.push(() => {
      const text = format(shown(index));
      if (output.textContent === text) return;
      output.textContent = text;
      input.value = shown(index);
      input.setAttribute("aria-valuetext", text);
    });
    return () => row.style.setProperty("--start", clamp(share(index, start[index])));
  }

  const marks = [...root.querySelectorAll("[data-latent]")].map(makeSlider); // functions that mark the start values

  // --- Animation --------------------------------------------------------------------------------------------------

  let playing = null;

  function startPlaying(index, button) {
    stop();
    moved = index;
    const phase = Math.asin(2 * clamp(share(index, latents[index])) - 1);
    playing = { index, button, phase, since: performance.now() };
    button.setAttribute("aria-pressed", "true");
    say(`${ranges.get(index).title} moves through its range; Escape stops it`);
    change();
  }

  function stop() {
    playing?.button.setAttribute("aria-pressed", "false");
    playing = null;
  }

  function advance(now) {
    const angle = playing.phase + (2 * Math.PI * Math.max(now - playing.since, 0)) / 1000 / PERIOD_SECONDS;
    latents[playing.index] = atShare(playing.index, (1 + Math.sin(angle)) / 2);
    change();
  }

  root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !playing) return;
    say(`Stopped at ${named(playing.index)}`);
    stop();
  });

  let held = false; // a pointer is down: something may be dragged
  root.addEventListener("pointerdown", () => (held = true), { capture: true });
  for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => (held = false));

  // --- Where to start from ------------------------------------------------------------------------------------------

  const starts = [...root.querySelectorAll("[data-start]")];

  function begin(values) {
    stop();
    start.set(values);
    latents.set(values);
    for (const mark of marks) mark();
    draw(rebuilt, decode(start));
    change();
  }

  function press(button) {
    for (const each of starts) each.setAttribute("aria-pressed", String(each === button));
  }

  // Shows a true image, given as a function that paints it, and starts from its latents.
  function beginFrom(values, paint) {
    const context = original.getContext("2d");
    context.clearRect(0, 0, width, height);
    root.classList.toggle("without-original", !paint);
    if (paint) paint(context);
    begin(values);
  }

  function startFrom(button) {
    press(button);
    const name = button.dataset.start, image = button.querySelector("img");
    const paint = (context) => {
      const now = () => context.drawImage(image, 0, 0, width, height);
      image.complete ? now() : image.addEventListener("load", now, { once: true });
    };
    const values = { prior: () => start.map(normal), zero: () => start.map(() => 0) }[name] ?? (() => data.seeds[Number(name)]);
    beginFrom(values(), image && paint);
    say(image ? `Starting from ${image.alt}` : name === "prior" ? "A random sample of the prior" : "All latents are 0");
  }

  function normal() {
    return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  }

  for (const button of starts) button.addEventListener("click", () => startFrom(button));

  function encodeOriginal() {
    press(null);
    root.classList.remove("without-original");
    drawn = true;
    change();
  }

  find("[data-reset]").addEventListener("click", () => {
    stop();
    latents.set(start);
    change();
    say("Latents are back where they started");
  });

  // --- The other parts of the explorer --------------------------------------------------------------------------------

  const explorer = {
    root, data, find, width, height, channels, latents, start, ranges, original, decoded, followers,
    decode, encode, draw, change, say, stop, press, begin, beginFrom, encodeOriginal,
    format, clamp, shown, span, share, atShare, named,
    isBusy: () => Boolean(playing) || held,
    lastMoved: () => moved,
    move(index, fraction) {
      latents[index] = atShare(index, clamp(fraction));
      moved = index;
    },
  };
  const gallery = data.gallery && readGallery(data.gallery, explorer);
  if (find("[data-pad]")) makePad(explorer, find("[data-pad]"), gallery);
  if (gallery?.complete && find("[data-factors]")) makeFactorPanel(explorer, find("[data-factors]"), gallery);
  if (find("[data-blend]")) makeBlend(explorer, find("[data-blend]"));
  if (encoder) enableDrawing(explorer);
  makeTabs(root);
  enableSharing(explorer);

  startFrom(root.querySelector("[data-start='0']") ?? starts[0]);
  say(data.hint);
  readFragment(explorer);
  // For the browser's console: betavae.decode([...]) gives pixels (y, x, channel) in [0, 1].
  window.betavae = { decode: (values) => decode(values).slice(), encode: encoder && encode, latents };
}

// Tabs as https://www.w3.org/WAI/ARIA/apg/patterns/tabs/ describes them.
function makeTabs(root) {
  const tabs = [...root.querySelectorAll("[role=tab]")];
  function select(tab) {
    for (const each of tabs) {
      each.setAttribute("aria-selected", String(each === tab));
      each.tabIndex = each === tab ? 0 : -1;
      root.querySelector(`#${each.getAttribute("aria-controls")}`).hidden = each !== tab;
    }
  }
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = tabs[(i + step + tabs.length) % tabs.length];
      select(next);
      next.focus();
    });
  });
}
