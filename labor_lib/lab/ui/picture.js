// A picture whose part and zoom the reader chooses: by clicks, drags, the wheel and keys.
// Its traits are those of `Picture` in controls.py.

const KEYS = {
  ArrowLeft: [-0.25, 0, 1],
  ArrowRight: [0.25, 0, 1],
  ArrowUp: [0, -0.25, 1],
  ArrowDown: [0, 0.25, 1],
  "+": [0, 0, 2],
  "=": [0, 0, 2],
  Enter: [0, 0, 2],
  "-": [0, 0, 0.5],
  Escape: [0, 0, 0],
  0: [0, 0, 0],
};
const CLOSEST = 16;

function render({ model, el }) {
  const figure = document.createElement("figure");
  figure.className = "labor-picture";
  const frame = document.createElement("div");
  frame.className = "labor-picture-frame";
  const image = document.createElement("img");
  image.draggable = false;
  const caption = document.createElement("figcaption");
  caption.setAttribute("aria-live", "polite");
  const hint = document.createElement("span");
  const save = document.createElement("a");
  save.textContent = "save as PNG";
  const readout = document.createElement("small"); // of the pixel under the pointer
  const foot = document.createElement("small");
  foot.append(hint, save);
  frame.append(image);
  figure.append(caption, frame, readout, foot); // the message first
  el.append(figure);
  if (model.get("zoomable")) {
    frame.tabIndex = 0;
    frame.setAttribute("role", "application"); // so that screen readers hand the keys through
    frame.setAttribute("aria-roledescription", "picture with zoom");
    // JupyterLab would take Enter and 0 for itself
    frame.setAttribute("data-lm-suppress-shortcuts", "true");
  }

  const drawPicture = () => {
    const bytes = model.get("png");
    figure.hidden = !bytes || bytes.byteLength === 0;
    URL.revokeObjectURL(image.src);
    readout.textContent = "";
    if (figure.hidden) return;
    image.src = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    save.href = image.src;
  };
  const drawRest = () => {
    image.alt = model.get("alt");
    caption.textContent = model.get("caption");
    caption.hidden = !model.get("caption");
    save.download = `${image.alt.replace(/[^\w]+/g, "-").slice(0, 60)}.png`;
    readout.hidden = !model.get("pixels").values;
    if (!model.get("zoomable")) return;
    const [left, top, zoom] = model.get("view");
    image.style.transform = `scale(${zoom}) translate(${-100 * left}%, ${-100 * top}%)`;
    frame.classList.toggle("labor-picture-zoomable", zoom < CLOSEST);
    frame.classList.toggle("labor-picture-zoomed", zoom > 1);
    // enlarged by less, squares of uneven size would break stripes and rings
    const sharp = zoom * image.clientWidth >= 3 * image.naturalWidth;
    image.classList.toggle("labor-picture-sharp", sharp);
    const text = zoom > 1
      ? `zoom ${zoom}×: drag or arrows move, + and - zoom, Escape shows everything`
      : "click to zoom in; after that the wheel zooms, too";
    hint.textContent = `${text} · `;
    frame.setAttribute("aria-label", `${model.get("alt")}; ${text}`);
  };

  // Show the part whose middle is at x, y of what is shown now (fractions), at another zoom.
  const look = (x, y, factor) => {
    const [left, top, before] = model.get("view");
    const zoom = Math.min(Math.max(before * factor, 1), CLOSEST);
    const start = (a, b) => Math.min(Math.max(a + b / before - 0.5 / zoom, 0), 1 - 1 / zoom);
    model.set("view", [start(left, x), start(top, y), zoom]);
    model.save_changes();
  };
  const share = (pointer) => {
    const place = frame.getBoundingClientRect();
    return [(pointer.clientX - place.left) / place.width,
      (pointer.clientY - place.top) / place.height];
  };
  // Say what is at x, y of what is shown now (fractions).
  const read = (x, y) => {
    const { values, width, height, names } = model.get("pixels");
    if (!values || Math.min(x, y) < 0 || Math.max(x, y) >= 1) return;
    const [left, top, zoom] = model.get("view");
    const row = Math.floor((top + y / zoom) * height);
    const place = 3 * (row * width + Math.floor((left + x / zoom) * width));
    const [truth, guess, sure] = [0, 1, 2].map((k) => values.getUint8(place + k));
    readout.textContent =
      `truly ${names[truth] ?? "void"}, predicted ${names[guess]} with ${sure} %`;
  };
  frame.addEventListener("pointermove", (move) => read(...share(move)));
  let pressed = null; // where the pointer went down
  frame.addEventListener("pointerdown", (down) => {
    if (!model.get("zoomable") || down.button !== 0) return;
    pressed = share(down);
    frame.setPointerCapture(down.pointerId);
  });
  frame.addEventListener("pointerup", (up) => {
    if (!pressed) return;
    const [x, y] = share(up);
    const [right, below] = [x - pressed[0], y - pressed[1]];
    pressed = null;
    if (Math.hypot(right, below) > 0.01) look(0.5 - right, 0.5 - below, 1);
    else look(x, y, 2);
  });
  let turned = 0; // when the wheel last zoomed
  frame.addEventListener("wheel", (wheel) => {
    if (!model.get("zoomable") || document.activeElement !== frame) return; // the page scrolls
    wheel.preventDefault();
    if (wheel.timeStamp - turned < 200) return;
    turned = wheel.timeStamp;
    look(...share(wheel), wheel.deltaY < 0 ? 2 : 0.5);
  });
  frame.addEventListener("keydown", (press) => {
    const move = KEYS[press.key];
    if (!model.get("zoomable") || !move || press.ctrlKey || press.metaKey || press.altKey) return;
    press.preventDefault(); // the page would scroll
    press.stopPropagation();
    look(0.5 + move[0], 0.5 + move[1], move[2]);
    read(0.5, 0.5);
  });

  model.on("change:png", drawPicture);
  model.on("change:alt change:caption change:view change:pixels", drawRest);
  drawPicture();
  drawRest();
  return () => {
    model.off("change:png", drawPicture);
    model.off("change:alt change:caption change:view change:pixels", drawRest);
    URL.revokeObjectURL(image.src);
  };
}

export default { render };
