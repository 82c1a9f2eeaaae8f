// The sheet of AnnotationWidget (annotate.py): asks one question after the other.
//
// To Python:    {do: "begin"}, {do: "answer", id, label, seconds, parts}, {do: "skip", id},
//               {do: "undo"}. parts: [[positions, label], ...] of a piece that was split, or [].
// From Python:  {is: "begin"}: forget everything
//               {is: "question", first, id, kind, image, guess, size, native, look, photo, part}
//               with positions, the photograph (where photo) and its sharp part (where part)
//               {is: "done", id}: saved or skipped; {is: "failed", id, why}: the question comes back
//               {is: "nothing to undo"}, {is: "end"}: no question is free
// Places are in the photograph's own pixels; positions count cells of a grid of `size` over it.

const TELL = 255; // "cannot tell"
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const LATE = 1500; // milliseconds after which an answer that is not saved yet is mentioned
const COLOURS = { outside: [0, 0, 0, 90], tell: [255, 255, 255] };

// ---------------------------------------------------------------- what all views of a sheet share

class Session {
  constructor(model) {
    this.model = model;
    this.queue = []; // questions, the one to answer first
    this.waiting = new Map(); // sent to Python, which has not confirmed: id -> question
    this.undoing = false;
    this.ended = false;
    this.word = ""; // something to tell
    this.views = new Set(); // functions that draw
    this.hear = (message, buffers) => this.receive(message, buffers);
    model.on("msg:custom", this.hear);
    this.tick = setInterval(() => this.waiting.size && this.changed(), 1000);
    this.begin();
  }

  end() {
    this.model.off("msg:custom", this.hear);
    clearInterval(this.tick);
  }

  begin() {
    this.model.send({ do: "begin" });
  }

  get current() {
    return this.undoing ? undefined : this.queue[0];
  }

  get late() {
    const now = performance.now();
    return [...this.waiting.values()].filter((one) => now - one.sent > LATE).length;
  }

  changed() {
    const question = this.current;
    if (question && question.began === undefined) question.began = performance.now();
    this.views.forEach((draw) => draw());
  }

  receive(message, buffers) {
    if (message.is === "begin") {
      this.queue = [];
      this.waiting.clear();
      this.undoing = this.ended = false;
    } else if (message.is === "question") {
      this.add(message, buffers);
    } else if (message.is === "done") {
      this.waiting.delete(message.id);
    } else if (message.is === "failed") {
      this.undoing = false;
      this.word = message.why;
      const back = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (back) {
        back.began = undefined;
        this.queue.unshift(back);
      }
    } else if (message.is === "nothing to undo") {
      this.undoing = false;
      this.word = "There is no answer to take back.";
    } else if (message.is === "end") {
      this.ended = true;
    }
    this.changed();
  }

  add(message, buffers) {
    const question = { ...message, split: null };
    const bytes = buffers.map((one) => new Uint8Array(one.buffer, one.byteOffset, one.byteLength)
      .slice()); // positions have to begin at a multiple of four
    question.positions = new Uint32Array(bytes.shift().buffer);
    question.piece = new Set(question.positions);
    const show = (image, key) => {
      createImageBitmap(new Blob([image], { type: "image/jpeg" })).then((bitmap) => {
        question[key].bitmap = bitmap;
        this.changed();
      });
      return { bitmap: null };
    };
    const known = [...this.queue, ...this.waiting.values()];
    question.whole = message.photo
      ? show(bytes.shift(), "whole")
      : known.find((other) => other.image === message.image && other.whole)?.whole;
    if (message.part) question.sharp = show(bytes.shift(), "sharp");
    this.queue = this.queue.filter((other) => other.id !== question.id);
    if (message.first) {
      this.queue.unshift(question);
      this.undoing = false;
    } else {
      this.queue.push(question);
    }
    this.ended = false;
  }

  leave(message) {
    const question = this.queue.shift();
    question.sent = performance.now();
    this.waiting.set(question.id, question);
    this.word = "";
    this.model.send({ ...message, id: question.id });
    this.changed();
  }

  answer(label, parts = []) {
    const seconds = (performance.now() - this.current.began) / 1000;
    this.leave({ do: "answer", label, seconds, parts });
  }

  skip() {
    if (this.current) this.leave({ do: "skip" });
    else if (this.ended) this.begin(); // perhaps another annotator has left some
  }

  undo() {
    this.undoing = true; // keys pressed meanwhile are not for the question that goes away
    this.word = "";
    this.model.send({ do: "undo" });
    this.changed();
  }
}

// --------------------------------------------------------------------------- splitting a piece

// Strokes of the brush over a piece: the chosen class paints, the rest takes the last one chosen.
class Split {
  constructor(question, label) {
    this.question = question;
    this.width = question.size[1];
    this.label = label;
    this.radius = Math.round(Math.sqrt(question.positions.length) / 16);
    this.strokes = []; // [positions, label] each
    const [x, y] = middle(question.positions, this.width);
    const away = (p) => (p % this.width - x) ** 2 + (Math.floor(p / this.width) - y) ** 2;
    const nearest = question.positions.reduce((a, b) => (away(b) < away(a) ? b : a));
    this.cursor = [nearest % this.width, Math.floor(nearest / this.width)];
  }

  move([right, down]) {
    const [height, width] = this.question.size;
    const clamp = (value, end) => Math.min(Math.max(value, 0), end - 1);
    const step = Math.max(1, this.radius);
    this.cursor = [
      clamp(this.cursor[0] + right * step, width), clamp(this.cursor[1] + down * step, height),
    ];
  }

  start() {
    this.strokes.push([[], this.label]);
  }

  // Paint the piece's cells round the cursor.
  dab() {
    const [x, y] = this.cursor;
    const reach = this.radius;
    for (let row = y - reach; row <= y + reach; row += 1) {
      for (let column = x - reach; column <= x + reach; column += 1) {
        const round = Math.hypot(row - y, column - x) <= reach + 0.3;
        const cell = row * this.width + column;
        if (round && column >= 0 && column < this.width && this.question.piece.has(cell)) {
          this.strokes.at(-1)[0].push(cell);
        }
      }
    }
  }

  // From the cursor on to another cell, without gaps.
  lead(to) {
    const from = this.cursor;
    const steps = Math.max(1, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    for (let k = 1; k <= steps; k += 1) {
      this.cursor = [0, 1].map((axis) => Math.round(from[axis] + (to[axis] - from[axis]) * k / steps));
      this.dab();
    }
  }

  get painted() {
    return new Map(this.strokes.flatMap(([cells, label]) => cells.map((cell) => [cell, label])));
  }

  // [[positions, label], ...], the largest part first.
  parts() {
    const painted = this.painted;
    return byLabel([...this.question.positions].map((cell) => [cell, painted.get(cell) ?? this.label]));
  }
}

// [[cell, label], ...] -> [[cells, label], ...], the most cells first
const byLabel = (pairs) => {
  const found = new Map();
  for (const [cell, label] of pairs) {
    if (!found.has(label)) found.set(label, []);
    found.get(label).push(cell);
  }
  return [...found].map(([label, cells]) => [cells, label])
    .sort((a, b) => b[0].length - a[0].length);
};

const middle = (positions, width) => {
  let [x, y] = [0, 0];
  for (const cell of positions) {
    x += cell % width;
    y += Math.floor(cell / width);
  }
  return [x / positions.length, y / positions.length];
};

// ------------------------------------------------------------------------------------- drawing

const make = (kind, css, parent, text = "") => {
  const made = document.createElement(kind);
  if (css) made.className = css;
  made.textContent = text; // never as HTML: names come from files
  parent.append(made);
  return made;
};

// Black or white, whatever is easier to read on "#rrggbb".
const readable = (colour) => {
  const [r, g, b] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff";
};

const duration = (seconds) => {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
};

// A picture over the cells: dark outside the piece, painted cells in their class's colour.
const tinted = (question, colours) => {
  const [height, width] = question.size;
  const tint = document.createElement("canvas");
  [tint.width, tint.height] = [width, height];
  const cells = new ImageData(width, height);
  for (let k = 0; k < width * height; k += 1) cells.data.set(COLOURS.outside, 4 * k);
  for (const cell of question.positions) cells.data[4 * cell + 3] = 0;
  for (const [cell, label] of question.split?.painted ?? []) {
    cells.data.set([...(colours[label] ?? COLOURS.tell), 170], 4 * cell);
  }
  tint.getContext("2d").putImageData(cells, 0, 0);
  return tint;
};

// The sides of a piece's cells that are its border: [x, y, x, y] each, in cells.
const border = ({ positions, piece, size: [, width] }) => {
  const sides = [];
  for (const cell of positions) {
    const [x, y] = [cell % width, Math.floor(cell / width)];
    if (x === 0 || !piece.has(cell - 1)) sides.push([x, y, x, y + 1]);
    if (x === width - 1 || !piece.has(cell + 1)) sides.push([x + 1, y, x + 1, y + 1]);
    if (!piece.has(cell - width)) sides.push([x, y, x + 1, y]);
    if (!piece.has(cell + width)) sides.push([x, y + 1, x + 1, y + 1]);
  }
  return sides;
};

function render(session, el) {
  const { model } = session;
  const root = make("div", "labor-annotate", el);
  root.tabIndex = 0;
  root.setAttribute("role", "application"); // so that screen readers hand the keys through
  root.setAttribute("aria-label", "Questions; the keys are on the buttons");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab would take the keys
  const top = make("div", "labor-annotate-top", root);
  const bar = make("progress", "", top);
  const count = make("span", "labor-annotate-count", top);
  const asked = make("p", "labor-annotate-asked", root);
  asked.setAttribute("aria-live", "polite");
  const word = make("p", "labor-annotate-word", root);
  word.setAttribute("role", "status");
  const pictures = make("div", "labor-annotate-pictures", root);
  const near = make("canvas", "labor-annotate-near", pictures);
  const far = make("canvas", "labor-annotate-far", pictures);
  near.setAttribute("aria-label", "the place, enlarged");
  far.setAttribute("aria-label", "the whole image, with the place");
  const classes = make("div", "labor-annotate-row", root);
  const acts = make("div", "labor-annotate-row", root);
  const hint = make("p", "labor-annotate-hint", root);
  let look = null; // {x, y: the middle; width: of what is shown}, in the photograph's pixels
  let shown = null; // the question that `look`, `tint` and `sides` belong to
  let tint = null;
  let sides = [];
  let buttons = []; // of the classes
  let byKey = {};
  let colours = [];

  const nameOf = (label) => model.get("classes")[label]?.name ?? "cannot tell";
  const act = (text, key, tip, action) => {
    const button = make("button", "labor-annotate-button", acts);
    button.type = "button";
    const cap = make("kbd", "", button, key);
    const label = make("span", "", button, text);
    button.title = tip;
    button.addEventListener("click", () => {
      action();
      root.focus({ preventScroll: true }); // the keys go on working
    });
    return { button, label, cap };
  };

  // ------------------------------------------------------------------------ what can be done

  const choose = (label) => {
    const question = session.current;
    if (!question) return;
    if (question.split) {
      question.split.label = label;
      session.changed();
    } else {
      session.answer(label);
    }
  };
  const confirm = () => {
    const question = session.current;
    if (!question) return;
    if (question.split) {
      const parts = question.split.parts();
      session.answer(parts[0][1], parts.length > 1 ? parts : []);
    } else if (question.guess !== TELL) {
      session.answer(question.guess);
    } else {
      session.word = "The model has no guess here: choose a class.";
      session.changed();
    }
  };
  const undo = () => {
    const strokes = session.current?.split?.strokes;
    if (strokes?.length) {
      strokes.pop();
      session.changed();
    } else if (session.current?.split) {
      toggleSplit();
    } else if (!session.undoing) {
      session.undo();
    }
  };
  const toggleSplit = () => {
    const question = session.current;
    if (question?.kind !== "segment" || question.problem) return;
    question.split = question.split ? null : new Split(question, question.guess);
    session.changed();
  };
  const resize = (more) => {
    const split = session.current?.split;
    if (!split) return;
    split.radius = Math.min(Math.max(split.radius + more, 0), 40);
    session.changed();
  };
  const zoom = (factor, x = look?.x, y = look?.y) => {
    if (!look) return;
    const [height, width] = session.current.native;
    const [before, most] = [look.width, 1.2 * Math.max(width, height * aspect())];
    look.width = Math.min(Math.max(before / factor, most / 200, 4), most);
    look.x = x + (look.x - x) * look.width / before; // the place under x, y stays
    look.y = y + (look.y - y) * look.width / before;
    paint();
  };
  const pan = (right, down) => {
    if (!look) return;
    const [height, width] = session.current.native;
    look.x = Math.min(Math.max(look.x + right, 0), width);
    look.y = Math.min(Math.max(look.y + down, 0), height);
    paint();
  };
  const back = () => {
    shown = null;
    draw();
  };

  const guess = act("", "Enter", "the model's guess is right (Enter or Space)", confirm);
  const tell = act("Cannot tell", "0", "no class fits, or it cannot be seen (0 or ?)",
    () => choose(TELL));
  const split = act("Split", "b", "the piece holds more than one class: paint the parts (b)",
    toggleSplit);
  const smaller = act("Smaller brush", ",", "smaller brush (,)", () => resize(-1));
  const larger = act("Larger brush", ".", "larger brush (.)", () => resize(1));
  const skipped = act("Skip", "s", "ask this later (s)", () => session.skip());
  const undone = act("Undo", "u", "take the last answer or stroke back (u or Backspace)", undo);
  act("Closer", "+", "zoom in (+, or the wheel)", () => zoom(1.5));
  act("Farther", "−", "zoom out (-, or the wheel)", () => zoom(1 / 1.5));
  act("Back to the place", "Home", "the place that is asked (Home)", back);

  // ----------------------------------------------------------------------------------- keys

  root.addEventListener("keydown", (press) => {
    if (press.ctrlKey || press.metaKey || press.altKey || press.key === "Tab") return;
    const key = /^Digit\d$/.test(press.code) && !press.shiftKey ? press.code.at(-1) : press.key;
    if (press.target.closest("button") && [" ", "Enter"].includes(key)) {
      press.stopPropagation(); // the button that Tab has chosen
      return;
    }
    const action = actionOf(key, press.shiftKey);
    if (!action) return;
    press.preventDefault(); // the page would scroll
    press.stopPropagation();
    if (!press.repeat || ARROWS[key] || "+-=,.".includes(key)) action();
  });
  const actionOf = (key, shift) => {
    const strokes = session.current?.split;
    if (ARROWS[key]) {
      const [right, down] = ARROWS[key];
      if (!strokes) return () => pan(right * look?.width / 8, down * look?.width / 8);
      return () => {
        if (shift) {
          strokes.start();
          strokes.dab();
        }
        strokes.move(ARROWS[key]);
        if (shift) strokes.dab();
        session.changed();
      };
    }
    if (strokes && key === " ") {
      return () => {
        strokes.start();
        strokes.dab();
        session.changed();
      };
    }
    const fixed = {
      Enter: confirm, " ": confirm, 0: tell.button, "?": tell.button, s: skipped.button,
      u: undone.button, Backspace: undone.button, b: split.button, ",": smaller.button,
      ".": larger.button, Home: back, Escape: strokes ? toggleSplit : back,
      "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5),
    };
    const label = byKey[key] ?? (key.length === 1 ? byKey[key.toLowerCase()] : undefined);
    const does = label === undefined ? fixed[key] ?? fixed[key.toLowerCase()] : () => choose(label);
    return does instanceof HTMLElement ? () => does.click() : does;
  };

  // ---------------------------------------------------------------------------------- mouse

  const aspect = () => near.clientWidth / near.clientHeight;
  const placeOf = (pointer) => {
    const box = near.getBoundingClientRect();
    const scale = look.width / box.width;
    return [
      look.x + (pointer.clientX - box.left - box.width / 2) * scale,
      look.y + (pointer.clientY - box.top - box.height / 2) * scale,
    ];
  };
  const cellOf = (pointer) => {
    const { size, native } = session.current;
    const [x, y] = placeOf(pointer);
    return [Math.floor(x * size[1] / native[1]), Math.floor(y * size[0] / native[0])];
  };
  let drag = null; // where a drag has come to, or "brush"
  near.addEventListener("contextmenu", (event) => event.preventDefault());
  near.addEventListener("pointerdown", (down) => {
    if (!look) return;
    near.setPointerCapture(down.pointerId);
    const strokes = session.current.split;
    drag = strokes && down.button === 0 ? "brush" : [down.clientX, down.clientY];
    if (drag !== "brush") return;
    strokes.cursor = cellOf(down);
    strokes.start();
    strokes.dab();
    session.changed();
  });
  near.addEventListener("pointermove", (move) => {
    const strokes = session.current?.split;
    if (drag === "brush" && strokes) {
      strokes.lead(cellOf(move));
      session.changed();
    } else if (Array.isArray(drag) && look) {
      const scale = look.width / near.clientWidth;
      pan((drag[0] - move.clientX) * scale, (drag[1] - move.clientY) * scale);
      drag = [move.clientX, move.clientY];
    } else if (strokes) {
      strokes.cursor = cellOf(move);
      paint();
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    near.addEventListener(end, () => { drag = null; });
  }
  near.addEventListener("wheel", (wheel) => {
    if (!look || !root.contains(document.activeElement)) return; // the page scrolls
    wheel.preventDefault();
    zoom(Math.exp(-wheel.deltaY * (wheel.deltaMode ? 0.05 : 0.0015)), ...placeOf(wheel));
  }, { passive: false });
  far.addEventListener("click", (click) => {
    if (!look) return;
    const [height, width] = session.current.native;
    const box = far.getBoundingClientRect();
    look.x = (click.clientX - box.left) / box.width * width;
    look.y = (click.clientY - box.top) / box.height * height;
    paint();
  });

  // ------------------------------------------------------------------------------- pictures

  // A canvas at the screen's resolution; what is drawn is counted in CSS pixels.
  const fresh = (canvas) => {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    return [pen, width, height];
  };
  // A line in white on black: seen on every photograph, by every eye.
  const line = (pen, ends) => {
    for (const [colour, width] of [["#000", 4], ["#fff", 1.7]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.lineCap = "square";
      pen.beginPath();
      for (const [a, b, c, d] of ends) {
        pen.moveTo(a, b);
        pen.lineTo(c, d);
      }
      pen.stroke();
    }
  };
  const named = (pen, text, x, y) => {
    pen.font = "600 14px system-ui, sans-serif";
    [pen.textAlign, pen.textBaseline, pen.lineJoin] = ["center", "middle", "round"];
    [pen.strokeStyle, pen.fillStyle, pen.lineWidth] = ["#000", "#fff", 4];
    pen.strokeText(text, x, y);
    pen.fillText(text, x, y);
  };
  const box = (a, b, c, d) => [[a, b, c, b], [c, b, c, d], [c, d, a, d], [a, d, a, b]];

  const paint = () => {
    const question = session.current;
    if (!question || !look || !near.clientWidth) return;
    paintNear(question);
    paintFar(question);
  };
  const paintNear = (question) => {
    const [pen, width, height] = fresh(near);
    const [tall, broad] = question.native;
    const scale = width / look.width;
    const x = (at) => (at - look.x) * scale + width / 2;
    const y = (at) => (at - look.y) * scale + height / 2;
    pen.imageSmoothingEnabled = scale < 4;
    const place = [x(0), y(0), broad * scale, tall * scale];
    if (question.whole.bitmap) pen.drawImage(question.whole.bitmap, ...place);
    if (question.sharp?.bitmap) {
      const [left, up, w, h] = question.part;
      pen.drawImage(question.sharp.bitmap, x(left), y(up), w * scale, h * scale);
    }
    const [across, down] = [broad / question.size[1], tall / question.size[0]]; // of a cell
    if (question.kind === "segment") {
      pen.imageSmoothingEnabled = false;
      pen.drawImage(tint, ...place);
      line(pen, sides.map(([a, b, c, d]) => [x(a * across), y(b * down), x(c * across), y(d * down)]));
    } else {
      const [column, row] = [question.positions[0] % question.size[1],
        Math.floor(question.positions[0] / question.size[1])];
      const [a, b] = [x(column * across) - 2, y(row * down) - 2]; // round the cell, not on it
      const [c, d] = [x((column + 1) * across) + 2, y((row + 1) * down) + 2];
      const [h, v, gap] = [(a + c) / 2, (b + d) / 2, 12];
      line(pen, [...box(a, b, c, d), [a - gap, v, a - gap - 60, v], [c + gap, v, c + gap + 60, v],
        [h, b - gap, h, b - gap - 60], [h, d + gap, h, d + gap + 60]]);
    }
    if (question.split) {
      for (const [cells, label] of byLabel([...question.split.painted])) { // not by colour alone
        const [column, row] = middle(cells, question.size[1]);
        named(pen, nameOf(label), x((column + 0.5) * across), y((row + 0.5) * down));
      }
      const { cursor, radius, label } = question.split;
      const [a, b] = [x((cursor[0] + 0.5) * across), y((cursor[1] + 0.5) * down)];
      const [wide, high] = [(radius + 0.5) * across * scale, (radius + 0.5) * down * scale];
      for (const [colour, thick] of [["#000", 6], ["#fff", 4], [css(label), 2]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = thick;
        pen.beginPath();
        pen.ellipse(a, b, wide, high, 0, 0, 2 * Math.PI);
        pen.stroke();
      }
    }
  };
  const css = (label) => model.get("classes")[label]?.colour ?? "#ffffff";
  const paintFar = (question) => {
    const [tall, broad] = question.native;
    far.style.aspectRatio = `${broad} / ${tall}`;
    const [pen, width, height] = fresh(far);
    const scale = width / broad;
    if (question.whole.bitmap) pen.drawImage(question.whole.bitmap, 0, 0, width, height);
    if (question.kind === "segment") {
      pen.imageSmoothingEnabled = false;
      pen.drawImage(tint, 0, 0, width, height);
    }
    const [w, h] = [look.width * scale / 2, look.width / aspect() * scale / 2];
    line(pen, box(look.x * scale - w, look.y * scale - h, look.x * scale + w, look.y * scale + h));
    const [x, y] = middle(question.positions, question.size[1]);
    const [a, b] = [(x + 0.5) * width / question.size[1], (y + 0.5) * height / question.size[0]];
    line(pen, [[a - 9, b, a - 3, b], [a + 3, b, a + 9, b], [a, b - 9, a, b - 3], [a, b + 3, a, b + 9]]);
  };

  // ---------------------------------------------------------------------------------- words

  const drawClasses = () => {
    classes.replaceChildren();
    byKey = {};
    colours = [];
    buttons = model.get("classes").map(({ name, colour, key }, label) => {
      const button = make("button", "labor-annotate-button", classes);
      button.type = "button";
      const cap = make("kbd", "", button, key || " ");
      cap.style.background = colour;
      cap.style.color = readable(colour);
      make("span", "", button, name);
      const mark = make("span", "labor-annotate-mark", button);
      button.addEventListener("click", () => {
        choose(label);
        root.focus({ preventScroll: true });
      });
      if (key) byKey[key] = label;
      colours.push([1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16)));
      return { button, mark };
    });
    draw();
  };

  const drawCount = () => {
    const { answered = 0, open = 0, left = null } = model.get("progress");
    bar.max = Math.max(answered + open, 1);
    bar.value = answered;
    const parts = [`${answered} answered`, `${open} open`];
    if (left !== null && open) parts.push(`about ${duration(left)} left`);
    if (session.late) parts.push(`${session.late} not saved yet`);
    count.textContent = parts.join(" · ");
  };

  const sentence = (question) => {
    if (!question) {
      if (session.undoing) return "Taking the last answer back …";
      if (!session.ended || session.waiting.size) return "One moment …";
      const { open = 0 } = model.get("progress");
      return open
        ? "The questions that are left are with other annotators. Press s to look again."
        : "Every question is answered.";
    }
    if (question.split) {
      return `Paint what is ${nameOf(question.split.label)}, choose another class, and paint or `
        + "finish: the rest takes the class chosen last.";
    }
    const what = question.kind === "segment" ? "What is in the outline" : "What is in the square";
    return `${what}? (${question.image})`;
  };

  const drawActs = (question) => {
    const splitting = Boolean(question?.split);
    const segment = question?.kind === "segment" && !question.problem;
    const label = splitting ? question.split.label : question?.guess;
    guess.label.textContent = splitting
      ? `Finish: the rest is ${nameOf(label)}`
      : `Confirm${label !== undefined && label !== TELL ? `: ${nameOf(label)}` : ""}`;
    guess.button.disabled = !question || (!splitting && label === TELL);
    tell.button.disabled = !question;
    split.label.textContent = splitting ? "Do not split" : "Split";
    split.button.hidden = !segment;
    smaller.button.hidden = larger.button.hidden = !splitting;
    skipped.label.textContent = question ? "Skip" : "Look again";
    buttons.forEach(({ button, mark }, k) => {
      const marked = question && k === label;
      button.disabled = !question;
      button.classList.toggle("labor-annotate-chosen", Boolean(marked));
      mark.textContent = marked ? (splitting ? "brush" : "model's guess") : "";
    });
    hint.textContent = !root.contains(document.activeElement)
      ? "Click here, then the keys on the buttons work."
      : splitting
        ? "Drag, or move with the arrow keys; Shift and arrow paints, Space paints once. "
          + "The right mouse button moves the picture."
        : "Drag or use the arrow keys to move, the wheel to zoom; a click in the whole image looks there.";
  };

  const draw = () => {
    const question = session.current;
    root.hidden = model.get("classes").length === 0;
    drawCount();
    drawActs(question);
    asked.textContent = sentence(question);
    word.textContent = [question?.problem && `Not shown: ${question.problem}`, session.word]
      .filter(Boolean).join(" ");
    word.hidden = !word.textContent;
    const seen = question && !question.problem && question.whole;
    pictures.hidden = !seen;
    if (!seen) {
      look = shown = null;
      return;
    }
    if (question !== shown) {
      const [left, up, width, height] = question.look;
      const fit = Math.max(width, height * aspect() || 0);
      look = { x: left + width / 2, y: up + height / 2, width: fit };
      sides = question.kind === "segment" ? border(question) : [];
      shown = question;
    }
    if (question.kind === "segment") tint = tinted(question, colours);
    paint();
  };

  const observer = new ResizeObserver(() => paint());
  observer.observe(near);
  const restart = () => { // the time in which nobody looks does not count
    if (!document.hidden && session.current) session.current.began = performance.now();
  };
  document.addEventListener("visibilitychange", restart);
  root.addEventListener("focusin", () => drawActs(session.current));
  root.addEventListener("focusout", () => setTimeout(() => drawActs(session.current)));
  root.addEventListener("pointerdown", () => root.focus({ preventScroll: true }));
  session.views.add(draw);
  model.on("change:classes", drawClasses);
  model.on("change:progress", draw);
  drawClasses();
  if (document.activeElement === document.body) root.focus({ preventScroll: true });
  return () => {
    session.views.delete(draw);
    observer.disconnect();
    document.removeEventListener("visibilitychange", restart);
    model.off("change:classes", drawClasses);
    model.off("change:progress", draw);
  };
}

export default () => {
  let session = null;
  return {
    initialize({ model }) {
      session = new Session(model);
      return () => session.end();
    },
    render({ el }) {
      return render(session, el);
    },
  };
};
