// The pad: two latents at once, over decoded images or over the true images as points of a map.
"use strict";

const MAP_CELLS = 7; // decoded images along a side of the pad
const MAP_DELAY = 250; // milliseconds of rest before the pad's images are decoded
const KEY_STEP = 0.02; // of a latent's range, for the pad's arrow keys
const MOST_KEYS = 10; // entries in the key of the colours
const VIRIDIS = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"];
const CLASSES = ["#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#f0e442", "#d55e00", "#0072b2", "#999999"];

function makePad(explorer, area, gallery) {
  const { latents, ranges, width, height, change, say, stop, clamp, share, move, named } = explorer;
  const surface = area.querySelector("[data-surface]"), map = area.querySelector("canvas");
  const [first, second] = area.querySelectorAll("select"), background = area.querySelector("[data-background]");
  const key = area.querySelector("[data-key]");
  const cell = document.createElement("canvas");
  [cell.width, cell.height] = [width, height];
  let timer = 0, done = "";

  const axes = () => [Number(first.value), Number(second.value)];
  // Up on the pad is up on the screen, if the latent moves the object up or down.
  const turned = (index) => ranges.get(index).up !== 0 && ranges.get(index).up !== ranges.get(index).sign;
  const across = (index, value) => share(index, value);
  const up = (index, value) => (turned(index) ? 1 - share(index, value) : share(index, value));

  function go(x, y) {
    const [a, b] = axes();
    stop();
    if (x !== undefined) move(a, x);
    if (y !== undefined) move(b, turned(b) ? 1 - clamp(y) : y);
    say(`${named(a)}, ${named(b)}`, true);
    change();
  }
  function point(event) {
    const box = surface.getBoundingClientRect();
    go((event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height);
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
    const [a, b] = axes(), step = event.shiftKey ? 5 * KEY_STEP : KEY_STEP;
    go(dx ? across(a, latents[a]) + step * dx : undefined, dy ? up(b, latents[b]) + step * dy : undefined);
    say(`${named(a)}, ${named(b)}`);
  });
  for (const [choice, other] of [[first, second], [second, first]]) {
    choice.addEventListener("change", () => {
      if (other.value === choice.value) {
        other.value = [...other.options].find((option) => option.value !== choice.value).value;
      }
      say(`The pad moves ${axes().map((index) => ranges.get(index).title).join(" and ")}`);
      change();
    });
  }
  background.addEventListener("change", () => {
    const factor = gallery?.names[Number(background.value)];
    if (background.value === "images") say("Each cell is a decoded image");
    else say(`Each point is a true image${factor === undefined ? "" : `, coloured by ${factor}`}`);
    change();
  });

  // The images are decoded one at a time, while nothing moves.
  function drawImages(number, at) {
    if (number === MAP_CELLS ** 2) return;
    const busy = explorer.isBusy();
    timer = setTimeout(() => drawImages(busy ? number : number + 1, at), busy ? MAP_DELAY : 0);
    if (busy) return;
    const column = number % MAP_CELLS, row = Math.floor(number / MAP_CELLS);
    const [a, b] = axes(), y = 1 - (row + 0.5) / MAP_CELLS;
    at[a] = explorer.atShare(a, (column + 0.5) / MAP_CELLS);
    at[b] = explorer.atShare(b, turned(b) ? 1 - y : y);
    explorer.draw(cell, explorer.decode(at));
    map.getContext("2d").drawImage(cell, column * width, row * height, width, height);
  }

  function drawPoints(factor) {
    const context = map.getContext("2d"), [a, b] = axes();
    const levels = gallery.labels[factor]?.length ?? 1, radius = Math.max(1.5, map.width / 180);
    const colour = (level) => (gallery.isClass(factor) ? CLASSES[level % CLASSES.length] : blend(level / Math.max(levels - 1, 1)));
    context.fillStyle = "#111";
    context.fillRect(0, 0, map.width, map.height);
    for (let n = 0; n < gallery.count; n++) {
      context.fillStyle = colour(gallery.level(n, factor));
      context.beginPath();
      context.arc(across(a, gallery.latent(n, a)) * map.width, (1 - up(b, gallery.latent(n, b))) * map.height, radius, 0, 7);
      context.fill();
    }
    const items = (gallery.labels[factor] ?? []).map((label, level) => swatch(label, colour(level)));
    const every = Math.ceil(items.length / MOST_KEYS);
    key.replaceChildren(...items.filter((_, level) => level % every === 0));
  }

  function swatch(label, colour) {
    const item = document.createElement("li"), dot = document.createElement("i");
    dot.style.background = colour;
    item.append(dot, label);
    return item;
  }

  explorer.followers.push(() => {
    const [a, b] = axes();
    surface.style.setProperty("--x", clamp(across(a, latents[a])));
    surface.style.setProperty("--y", clamp(up(b, latents[b])));
    const rest = background.value === "images" ? latents.map((value, i) => (i === a || i === b ? 0 : value)) : [];
    const wanted = [background.value, a, b, ...rest].join();
    if (wanted === done) return;
    done = wanted;
    clearTimeout(timer);
    if (background.value === "images") {
      key.replaceChildren();
      timer = setTimeout(drawImages, MAP_DELAY, 0, Float64Array.from(latents));
    } else drawPoints(Number(background.value));
  });
}

// A colour of the scale viridis, at a fraction of it.
function blend(fraction) {
  const place = fraction * (VIRIDIS.length - 1), i = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const channel = (hex, c) => parseInt(hex.slice(1 + 2 * c, 3 + 2 * c), 16);
  const mixed = [0, 1, 2].map((c) => {
    const [low, high] = [channel(VIRIDIS[i], c), channel(VIRIDIS[i + 1], c)];
    return Math.round(low + (place - i) * (high - low));
  });
  return `rgb(${mixed.join()})`;
}
