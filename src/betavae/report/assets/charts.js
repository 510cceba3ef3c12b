// Line charts: values on hover, zoom by dragging. Without this script, the charts are still there.
"use strict";

function makeChart(figure) {
  const { lines, log, ends } = JSON.parse(figure.dataset.chart);
  const svg = figure.querySelector("svg"), readout = figure.querySelector("[data-readout]");
  const cursor = svg.querySelector(".cursor"), selection = svg.querySelector(".selection");
  const [left, right, top, bottom] = JSON.parse(figure.dataset.box);
  const paths = [...svg.querySelectorAll(".lines path")], ticks = [...svg.querySelectorAll(".ticks")];
  const before = [...paths.map((path) => path.getAttribute("d")), ...ticks.map((group) => group.innerHTML)];
  const shown = lines.filter((line) => !line.faint);
  let [low, high, least, most] = ends, at = shown[0].x.length - 1, from = null;

  const scale = (value) => (log ? Math.log(value) : value);
  const placeX = (x) => left + ((right - left) * (x - low)) / (high - low);
  const placeY = (y) => bottom - (bottom - top) * Math.min(Math.max((scale(y) - scale(least)) / (scale(most) - scale(least)), 0), 1);
  const text = (value) => value.toLocaleString("en", { maximumSignificantDigits: 4 });

  function locate(event) {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    return low + ((high - low) * (Math.min(Math.max(x, left), right) - left)) / (right - left);
  }
  const nearest = (xs, x) => xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0);

  function tell(x) {
    const found = shown.filter((line) => x >= line.x[0] - 1e-9 && x <= line.x.at(-1) + 1e-9);
    const values = found.slice(0, 6).map((line) => `${line.name} ${text(line.y[nearest(line.x, x)])}`);
    readout.textContent = `step ${text(Math.round(x))}: ${values.join(", ")}${found.length > 6 ? ", …" : ""}`;
    cursor.setAttribute("d", `M${placeX(x)} ${top}V${bottom}`);
  }

  function zoom(start, end) {
    [low, high] = [start, end];
    const inside = lines.flatMap((line) => line.y.filter((_, i) => line.x[i] >= start && line.x[i] <= end));
    if (inside.length) [least, most] = [Math.min(...inside), Math.max(...inside)];
    if (most - least < 1e-9 * Math.abs(most)) [least, most] = [least - 0.01 * Math.abs(least), most + 0.01 * Math.abs(most) + 1e-9];
    paths.forEach((path, n) => {
      const points = lines[n].x.map((x, i) => [x, lines[n].y[i]]).filter(([x]) => x >= start && x <= end);
      path.setAttribute("d", points.map(([x, y], i) => `${i ? "L" : "M"}${placeX(x).toFixed(1)} ${placeY(y).toFixed(1)}`).join(""));
    });
    label();
    readout.textContent = "Zoomed. Double-click or press Escape to zoom out.";
    cursor.setAttribute("d", "");
  }

  // The ends of both axes are enough in a zoomed chart.
  function label() {
    const [across, up] = ticks.map((group) => [group.firstElementChild, group.lastElementChild]);
    for (const group of ticks) group.replaceChildren(group.firstElementChild, group.lastElementChild);
    [low, high].forEach((value, i) => place(across[i], placeX(value), null, text(Math.round(value))));
    [least, most].forEach((value, i) => place(up[i], null, i ? top : bottom, text(value)));
  }
  function place(tick, x, y, words) {
    tick.setAttribute("transform", x === null ? `translate(0 ${y})` : `translate(${x} 0)`);
    const text = tick.querySelector("text");
    text.textContent = words;
    if (x === right) text.setAttribute("text-anchor", "end");
  }

  function reset() {
    [low, high, least, most] = ends;
    paths.forEach((path, n) => path.setAttribute("d", before[n]));
    ticks.forEach((group, n) => (group.innerHTML = before[paths.length + n]));
    readout.textContent = "";
    cursor.setAttribute("d", "");
  }

  svg.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse") from = locate(event);
  });
  svg.addEventListener("pointermove", (event) => {
    const x = locate(event);
    tell(x);
    if (from !== null) selection.setAttribute("d", `M${placeX(from)} ${top}H${placeX(x)}V${bottom}H${placeX(from)}Z`);
  });
  window.addEventListener("pointerup", (event) => {
    if (from === null) return;
    const [start, end] = [from, locate(event)].sort((a, b) => a - b);
    from = null;
    selection.setAttribute("d", "");
    if (end - start > 0.02 * (high - low)) zoom(start, end);
  });
  svg.addEventListener("dblclick", reset);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], { x } = shown[0];
    const first = x.findIndex((value) => value >= low), last = x.findLastIndex((value) => value <= high);
    if (event.key === "Escape") reset();
    else if (event.key === "+") zoom(Math.max(low, x[at] - (high - low) / 4), Math.min(high, x[at] + (high - low) / 4));
    else if (step && first <= last) {
      at = Math.min(Math.max(at + step * Math.ceil((last - first + 1) / 50), first), last);
      tell(x[at]);
      event.preventDefault();
    }
  });
}

for (const figure of document.querySelectorAll("[data-chart]")) makeChart(figure);
