// Plays the games in the page. A game's data is described in replay.py (encode, encode_decisions).
"use strict";

const ROWS = 24, COLUMNS = 80, CELLS = ROWS * COLUMNS;
const SCREENS_PER_SECOND = 10; // at speed 1
const TYPES = { u8: Uint8Array, u16: Uint16Array, i32: Int32Array, f32: Float32Array };
const QUIET = 400; // ms without a change until the step is spoken
const SERIES = [["score", "return"], ["depth", "held"], ["value", "loss"]]; // of the curves, with their colours

async function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = await new Response(stream).arrayBuffer();
  const [length] = new Uint32Array(data, 0, 1);
  const game = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  let at = 4 + length;
  for (const [name, type, count] of game.arrays) {
    game[name] = new TYPES[type](data, at, count);
    at += game[name].byteLength;
  }
  return game;
}

// The screen after frame `now`; goes forward by applying changes, backward by starting over.
class Screen {
  constructor(game) {
    this.game = game;
    this.chars = new Uint8Array(CELLS);
    this.colours = new Uint8Array(CELLS);
    this.clear();
  }

  clear() {
    this.chars.fill(32);
    this.colours.fill(0);
    this.now = -1;
    this.next = 0; // first change not applied yet
  }

  show(frame) {
    if (frame < this.now) this.clear();
    const { changed, step, chars, colours } = this.game;
    while (this.now < frame) {
      let cell = 0;
      const end = this.next + changed[++this.now];
      for (; this.next < end; this.next++) {
        cell += step[this.next];
        this.chars[cell] = chars[this.next];
        this.colours[cell] = colours[this.next];
      }
    }
  }

  // One row as spans, a span a run of cells of one look.
  row(row, cursor) {
    const line = document.createDocumentFragment();
    let look = null, text = "";
    const flush = () => {
      if (!text) return;
      const span = document.createElement("span");
      span.className = look;
      span.textContent = text;
      line.append(span);
      text = "";
    };
    for (let column = 0; column < COLUMNS; column++) {
      const cell = row * COLUMNS + column;
      const code = this.chars[cell];
      const here = column === cursor ? "cursor" : "k" + this.colours[cell];
      if (here !== look) { flush(); look = here; }
      text += code < 32 || (code > 126 && code < 160) ? " " : String.fromCharCode(code);
    }
    flush();
    return line;
  }
}

class Player {
  constructor(root) {
    this.root = root;
    this.playing = false;
    this.find = (name) => root.querySelector("." + name);
    [this.terminal, this.seek, this.speed, this.button, this.counter] =
      ["terminal", "seek", "speed", "play", "counter"].map(this.find);
    this.lines = Array.from({ length: ROWS }, () => document.createElement("div"));
    this.terminal.replaceChildren(...this.lines);
    this.button.addEventListener("click", () => this.toggle());
    this.terminal.addEventListener("click", () => {
      if (String(getSelection())) return;
      this.button.focus({ preventScroll: true }); // so that the keys work
      this.toggle();
    });
    this.find("start").addEventListener("click", () => this.go(0));
    this.find("back").addEventListener("click", () => this.step(-1));
    this.find("forward").addEventListener("click", () => this.step(1));
    this.seek.addEventListener("input", () => this.go(Number(this.seek.value)));
    root.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.fit()).observe(this.find("stage"));
    this.fit();
  }

  // Show a game from its first screen.
  load(game) {
    this.pause();
    this.game = game;
    this.frames = game.changed.length;
    this.screen = new Screen(game);
    this.drawn = new Array(ROWS).fill("");
    this.seek.max = this.frames - 1;
    this.decision = new Decision(this.find("decision"), game);
    this.curves = SERIES.filter(([name]) => game[name]).map(([name, colour]) => new Curve(name, colour, game[name], this));
    this.find("curves").replaceChildren(...this.curves.map((curve) => curve.root));
    this.root.querySelectorAll("[disabled]").forEach((control) => { control.disabled = false; });
    this.fit();
    this.go(0);
  }

  // The terminal is laid out at 16 px and scaled to the width there is.
  fit() {
    const stage = this.terminal.parentElement;
    this.terminal.style.transform = "none";
    const scale = stage.clientWidth / this.terminal.offsetWidth;
    this.terminal.style.transform = `scale(${scale})`;
    stage.style.height = `${this.terminal.offsetHeight * scale}px`;
  }

  go(frame) {
    this.frame = Math.max(0, Math.min(this.frames - 1, Math.floor(frame)));
    this.screen.show(this.frame);
    const { rows, columns } = this.game;
    for (let row = 0; row < ROWS; row++) {
      const cursor = row === rows[this.frame] ? columns[this.frame] : -1;
      const cells = [row * COLUMNS, (row + 1) * COLUMNS];
      const look = cursor + "|" + this.screen.chars.slice(...cells) + "|" + this.screen.colours.slice(...cells);
      if (look === this.drawn[row]) continue;
      this.drawn[row] = look;
      this.lines[row].replaceChildren(this.screen.row(row, cursor));
    }
    this.seek.value = this.frame;
    this.counter.textContent = [`${number(this.frame + 1)} / ${number(this.frames)}`, ...this.figures()].join(" · ");
    this.seek.setAttribute("aria-valuetext", this.counter.textContent);
    this.decision.show(this.frame);
    this.curves.forEach((curve) => curve.show(this.frame));
    clearTimeout(this.speaking);
    if (!this.playing) this.speaking = setTimeout(() => this.speak(), QUIET);
  }

  figures() {
    const { score, depth, action, actions } = this.game;
    return [
      ...(score ? [`score ${number(score[this.frame])}`] : []),
      ...(depth ? [`depth ${depth[this.frame] || "unknown"}`] : []),
      ...(action && !this.decision.known ? [`action ${actions[action[this.frame]]}`] : []),
    ];
  }

  // For screen readers: the step that the game was stopped at.
  speak() {
    this.find("spoken").textContent = [`Step ${this.counter.textContent}`, ...this.decision.words(this.frame)].join("; ");
  }

  step(by) {
    this.pause();
    this.go(this.frame + by);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.frame === this.frames - 1) this.go(0);
    this.playing = true;
    this.label();
    let before = performance.now(), due = this.frame;
    const tick = (now) => {
      if (!this.playing) return;
      if (Math.floor(due) !== this.frame) due = this.frame; // someone moved the slider
      due += Math.max(0, now - before) / 1000 * SCREENS_PER_SECOND * Number(this.speed.value);
      before = now;
      if (Math.floor(due) !== this.frame) this.go(due);
      due = Math.min(due, this.frames - 1 + 0.5);
      if (this.frame === this.frames - 1) this.pause();
      else requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  pause() {
    if (this.playing) this.speaking = setTimeout(() => this.speak(), QUIET);
    this.playing = false;
    this.label();
  }

  label() {
    this.button.textContent = this.playing ? "Pause" : "Play";
    this.root.classList.toggle("playing", this.playing);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target === this.speed || !this.game) return;
    const by = event.shiftKey ? 100 : 1;
    const act = {
      " ": () => this.toggle(),
      ArrowLeft: () => this.step(-by),
      ArrowRight: () => this.step(by),
      ArrowUp: () => this.faster(1),
      ArrowDown: () => this.faster(-1),
      Home: () => this.step(-this.frames),
      End: () => this.step(this.frames),
    }[event.key];
    if (!act || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    act();
  }

  faster(by) {
    const index = this.speed.selectedIndex + by;
    this.speed.selectedIndex = Math.max(0, Math.min(this.speed.options.length - 1, index));
  }
}

// What the agent expected at a step: its most likely actions, the one it took, its value.
class Decision {
  constructor(root, game) {
    this.root = root;
    this.game = game;
    this.known = Boolean(game.likely);
    root.hidden = !this.known;
    if (!this.known) return;
    this.frames = game.changed.length;
    this.rows = Array.from({ length: game.likely.length / this.frames }, () => this.row());
    root.querySelector("tbody").replaceChildren(...this.rows.map((row) => row.root));
    root.querySelector(".value").hidden = !game.value;
  }

  row() {
    const root = document.createElement("tr"), name = document.createElement("th"), share = document.createElement("td");
    name.scope = "row";
    share.className = "number";
    root.append(name, share);
    return { root, name, share };
  }

  show(frame) {
    if (!this.known) return;
    const { likely, probability, action, actions, taken, value } = this.game;
    this.root.querySelector(".action").textContent = `takes ${actions[action[frame]]} (${percent(taken[frame])})`;
    this.rows.forEach((row, k) => {
      const at = k * this.frames + frame;
      const isTaken = likely[at] === action[frame];
      row.name.textContent = actions[likely[at]] + (isTaken ? " (taken)" : "");
      row.root.classList.toggle("taken", isTaken);
      row.share.textContent = percent(probability[at]);
      row.root.style.setProperty("--share", `${probability[at] / 10}%`);
    });
    if (value) this.root.querySelector(".value").textContent = `value ${value[frame].toPrecision(3)}`;
  }

  words(frame) {
    if (!this.known) return [];
    const { action, actions, taken, value } = this.game;
    const said = [`takes ${actions[action[frame]]}, ${percent(taken[frame])}`];
    return value ? [...said, `value ${value[frame].toPrecision(3)}`] : said;
  }
}

// A number over the steps; a click on it goes to the step.
class Curve {
  constructor(name, colour, values, player) {
    this.values = values;
    const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    this.root = document.createElement("div");
    this.root.className = "curve";
    this.root.style.setProperty("--colour", `var(--${colour})`);
    this.root.innerHTML = `<span class="name"></span><svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img">` +
      `<path/><line y1="0" y2="100"/></svg><span class="range"></span>`;
    const [label, svg, range] = this.root.children;
    this.label = label;
    this.name = name;
    this.line = svg.querySelector("line");
    svg.querySelector("path").setAttribute("d", outline(values, low, high));
    svg.setAttribute("aria-label", `${name} over the steps, from ${short(low)} to ${short(high)}`);
    range.textContent = low === high ? short(low) : `${short(low)} to ${short(high)}`;
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      player.seek.focus({ preventScroll: true });
      player.go((event.clientX - box.left) / box.width * (values.length - 1) + 0.5);
    });
  }

  show(frame) {
    const at = this.values.length > 1 ? frame / (this.values.length - 1) * 1000 : 0;
    this.line.setAttribute("x1", at);
    this.line.setAttribute("x2", at);
    this.label.textContent = `${this.name} ${short(this.values[frame])}`;
  }
}

// The path of a curve in a box of 1000 x 100: of many steps the lowest and highest of each thousandth.
function outline(values, low, high) {
  const points = [], bins = Math.min(values.length, 1000);
  for (let bin = 0; bin < bins; bin++) {
    const start = Math.floor(bin * values.length / bins), end = Math.floor((bin + 1) * values.length / bins);
    let [a, b] = [values[start], values[start]];
    for (let i = start; i < end; i++) { a = Math.min(a, values[i]); b = Math.max(b, values[i]); }
    const x = (bins > 1 ? bin / (bins - 1) * 1000 : 0).toFixed(1);
    for (const v of a === b ? [a] : [a, b]) points.push(`${x} ${(95 - 90 * (high > low ? (v - low) / (high - low) : 0.5)).toFixed(1)}`);
  }
  return "M" + points.join("L") + (bins > 1 ? "" : "h1000");
}

const number = (value) => value.toLocaleString("en");
const short = (value) => Number.isInteger(value) ? number(value) : value.toPrecision(3);
const percent = (thousandths) => thousandths ? `${(thousandths / 10).toFixed(1)}%` : "< 0.1%";

async function startPlayers() {
  for (const frames of document.querySelectorAll(".replay > .frames")) {
    const root = frames.parentElement, player = new Player(root);
    try {
      player.load(await decode(frames.textContent.trim()));
      root.player = player;
    } catch (error) {
      player.counter.textContent = `This browser cannot show the replay (${error.message}).`;
    }
  }
}

startPlayers();
