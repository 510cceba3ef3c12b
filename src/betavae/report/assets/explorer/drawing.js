// Drawing on the original, and opening pictures: what is drawn is encoded.
"use strict";

const PEN_RADIUS = 0.04; // of the image's width

function enableDrawing({ root, find, width, height, original, say, encodeOriginal: takeDrawing }) {
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
    say("Your drawing is encoded; the sliders show its latents", true);
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
    say("Draw on the original");
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
