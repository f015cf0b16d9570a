// Plays the games in the page. A replay's data is described in replay.py (encode).
"use strict";

const ROWS = 24, COLUMNS = 80, CELLS = ROWS * COLUMNS;
const SCREENS_PER_SECOND = 10; // at speed 1

async function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = await new Response(stream).arrayBuffer();
  const [frames, cells, scored] = new Uint32Array(data, 0, 3);
  let at = 12;
  const take = (type, length) => {
    const array = new type(data, at, length);
    at += array.byteLength;
    return array;
  };
  const score = take(Int32Array, frames);
  return {
    frames, score: scored ? score : null,
    changed: take(Uint16Array, frames), step: take(Uint16Array, cells),
    chars: take(Uint8Array, cells), colours: take(Uint8Array, cells),
    rows: take(Uint8Array, frames), columns: take(Uint8Array, frames),
  };
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
  constructor(root, game) {
    this.root = root;
    this.game = game;
    this.screen = new Screen(game);
    this.frame = 0;
    this.playing = false;
    const find = (name) => root.querySelector("." + name);
    [this.terminal, this.seek, this.speed, this.button, this.counter] =
      ["terminal", "seek", "speed", "play", "counter"].map(find);
    this.lines = Array.from({ length: ROWS }, () => document.createElement("div"));
    this.drawn = new Array(ROWS).fill("");
    this.terminal.replaceChildren(...this.lines);
    this.seek.max = game.frames - 1;
    this.button.addEventListener("click", () => this.toggle());
    this.terminal.addEventListener("click", () => { if (!String(getSelection())) this.toggle(); });
    find("start").addEventListener("click", () => this.go(0));
    find("back").addEventListener("click", () => this.step(-1));
    find("forward").addEventListener("click", () => this.step(1));
    this.seek.addEventListener("input", () => this.go(Number(this.seek.value)));
    root.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.fit()).observe(find("stage"));
    root.querySelectorAll("[disabled]").forEach((control) => { control.disabled = false; });
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
    this.frame = Math.max(0, Math.min(this.game.frames - 1, Math.floor(frame)));
    this.screen.show(this.frame);
    const { rows, columns, score, frames } = this.game;
    for (let row = 0; row < ROWS; row++) {
      const cursor = row === rows[this.frame] ? columns[this.frame] : -1;
      const cells = [row * COLUMNS, (row + 1) * COLUMNS];
      const look = cursor + "|" + this.screen.chars.slice(...cells) + "|" + this.screen.colours.slice(...cells);
      if (look === this.drawn[row]) continue;
      this.drawn[row] = look;
      this.lines[row].replaceChildren(this.screen.row(row, cursor));
    }
    this.seek.value = this.frame;
    const points = score ? ` · score ${score[this.frame].toLocaleString("en")}` : "";
    this.counter.textContent = `${(this.frame + 1).toLocaleString("en")} / ${frames.toLocaleString("en")}${points}`;
    this.seek.setAttribute("aria-valuetext", this.counter.textContent);
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
    if (this.frame === this.game.frames - 1) this.go(0);
    this.playing = true;
    this.label();
    let before = performance.now(), due = this.frame;
    const tick = (now) => {
      if (!this.playing) return;
      if (Math.floor(due) !== this.frame) due = this.frame; // someone moved the slider
      due += Math.max(0, now - before) / 1000 * SCREENS_PER_SECOND * Number(this.speed.value);
      before = now;
      if (Math.floor(due) !== this.frame) this.go(due);
      due = Math.min(due, this.game.frames - 1 + 0.5);
      if (this.frame === this.game.frames - 1) this.pause();
      else requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  pause() {
    this.playing = false;
    this.label();
  }

  label() {
    this.button.textContent = this.playing ? "Pause" : "Play";
    this.root.classList.toggle("playing", this.playing);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target === this.speed) return;
    const by = event.shiftKey ? 100 : 1;
    const act = {
      " ": () => this.toggle(),
      ArrowLeft: () => this.step(-by),
      ArrowRight: () => this.step(by),
      ArrowUp: () => this.faster(1),
      ArrowDown: () => this.faster(-1),
      Home: () => this.step(-this.game.frames),
      End: () => this.step(this.game.frames),
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

async function startPlayers() {
  for (const root of document.querySelectorAll(".replay")) {
    try {
      root.player = new Player(root, await decode(root.querySelector(".frames").textContent.trim()));
    } catch (error) {
      root.querySelector(".counter").textContent = `This browser cannot show the replay (${error.message}).`;
    }
  }
}

startPlayers();
