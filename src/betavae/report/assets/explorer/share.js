// Copying and saving: latents, a link to the present state, a picture, an animation.
"use strict";

const GIF_FRAMES = 24; // there; as many back
const GIF_PIXELS = 256; // width of an animation, as nearly as a whole factor allows
const SAVED_PIXELS = 512;

function enableSharing(explorer) {
  const { find, data, latents, start, width, height, say, stop, change } = explorer;

  function save(blob, ending) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${data.name.replace(/[^\p{L}\p{N}._-]+/gu, "-")}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`Saved ${link.download}`);
  }

  async function copy(text, told) {
    try {
      await navigator.clipboard.writeText(text);
      say(told);
    } catch {
      say(text); // where the browser allows no copying, the text can be selected
    }
  }

  find("[data-copy]").addEventListener("click", () => {
    const count = `${latents.length} ${latents.length === 1 ? "latent" : "latents"}`;
    copy(`[${Array.from(latents, (value) => value.toFixed(4)).join(", ")}]`, `Copied ${count}`);
  });

  find("[data-link]").addEventListener("click", () => {
    const fragment = `#z=${Array.from(latents, (value) => value.toFixed(3)).join()}`;
    history.replaceState(null, "", fragment);
    copy(location.href, "Copied a link to these latents");
  });

  find("[data-save]").addEventListener("click", () => {
    const scale = Math.max(1, Math.round(SAVED_PIXELS / Math.max(width, height)));
    const large = document.createElement("canvas");
    [large.width, large.height] = [scale * width, scale * height];
    const context = large.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(explorer.decoded, 0, 0, large.width, large.height);
    large.toBlob((blob) => save(blob, "png"));
  });

  find("[data-animate]").addEventListener("click", () => {
    const index = explorer.lastMoved(), values = Float64Array.from(latents), frames = [];
    stop();
    for (let n = 0; n < GIF_FRAMES; n++) {
      values[index] = explorer.atShare(index, n / (GIF_FRAMES - 1));
      frames.push(explorer.decode(values).slice());
    }
    const scale = Math.max(1, Math.round(GIF_PIXELS / width));
    const bytes = encodeGif([...frames, ...frames.slice(1, -1).reverse()], width, height, explorer.channels, scale);
    save(new Blob([bytes], { type: "image/gif" }), "gif");
    say(`Saved ${explorer.ranges.get(index).title} as GIF`);
  });
}

// Takes the latents from the address, as "Copy link" writes them.
function readFragment({ latents, say, change }) {
  const values = /^#z=([-\d.,e]+)$/.exec(location.hash)?.[1].split(",").map(Number);
  if (values?.length !== latents.length || !values.every(Number.isFinite)) return;
  latents.set(values);
  change();
  say("Latents of the link");
}
