// A picture that tells Python where it was clicked and which of its keys was pressed.
// Traits: png (bytes), alt, caption, label (of the frame, for screen readers), clickable, smooth.
// It answers in `event`: {kind, x, y, count}; x and y are fractions of the width and height, and
// the count makes a second click at the same place another event.

const KEYS = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
  "+": "in",
  "=": "in",
  "-": "out",
  Enter: "click",
  Escape: "reset",
  0: "reset",
};

function render({ model, el }) {
  const figure = document.createElement("figure");
  figure.className = "labor-picture";
  const frame = document.createElement("div");
  frame.className = "labor-picture-frame";
  const image = document.createElement("img");
  image.draggable = false;
  const caption = document.createElement("figcaption");
  caption.setAttribute("aria-live", "polite");
  frame.append(image);
  figure.append(caption, frame); // the message first
  el.append(figure);

  let address = "";
  const drawPng = () => {
    const before = address;
    const bytes = model.get("png");
    figure.hidden = !bytes || bytes.byteLength === 0;
    if (figure.hidden) return;
    address = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    image.src = address;
    if (before) URL.revokeObjectURL(before);
  };
  const drawTexts = () => {
    image.alt = model.get("alt");
    caption.textContent = model.get("caption");
    caption.hidden = !model.get("caption");
    image.classList.toggle("labor-picture-smooth", model.get("smooth"));
    const clickable = model.get("clickable");
    frame.classList.toggle("labor-picture-clickable", clickable);
    for (const [name, value] of Object.entries({
      tabindex: "0",
      role: "application", // so that screen readers hand the keys through
      "aria-roledescription": "picture with zoom",
      "aria-label": model.get("label"),
      title: model.get("label"),
      "data-lm-suppress-shortcuts": "true", // JupyterLab would take Enter and 0 for itself
    })) {
      if (clickable) frame.setAttribute(name, value);
      else frame.removeAttribute(name);
    }
  };

  const send = (kind, x, y) => {
    const count = (model.get("event").count || 0) + 1;
    model.set("event", { kind, x, y, count });
    model.save_changes();
  };
  image.addEventListener("click", (click) => {
    if (!model.get("clickable")) return;
    const place = image.getBoundingClientRect();
    send(
      "click",
      (click.clientX - place.left) / place.width,
      (click.clientY - place.top) / place.height,
    );
  });
  frame.addEventListener("keydown", (press) => {
    const kind = KEYS[press.key];
    if (!model.get("clickable") || !kind || press.ctrlKey || press.metaKey || press.altKey) return;
    press.preventDefault(); // the page would scroll
    press.stopPropagation();
    send(kind, 0.5, 0.5);
  });

  model.on("change:png", drawPng);
  model.on("change:alt change:caption change:label change:clickable change:smooth", drawTexts);
  drawTexts();
  drawPng();
  return () => {
    model.off("change:png", drawPng);
    model.off("change:alt change:caption change:label change:clickable change:smooth", drawTexts);
    if (address) URL.revokeObjectURL(address);
  };
}

export default { render };
