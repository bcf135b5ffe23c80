// The viewer: window and level, zoom and pan, a map over the radiograph, by mouse, touch, keys, buttons and sliders.

import { byId } from "./dom.js";
import { paint } from "./picture.js";

const START = { width: 255, level: 128, zoom: 1, x: 0, y: 0, inverted: false };
const LIMITS = { width: [2, 400], level: [0, 255], zoom: [1, 12] };
const ZOOM_STEP = 1.3;
const MOVE_STEP = 40;
const WINDOW_STEP = 8;

const clamp = (value, [low, high]) => Math.min(high, Math.max(low, value));

export class Viewer {
  #picture = null;
  #map = null;
  #opacity = 0.8;
  #state = { ...START };
  #pending = 0;
  #pointers = new Map();
  #stage = byId("stage");
  #canvas = byId("canvas");

  constructor() {
    new ResizeObserver(() => this.#render()).observe(this.#stage);
    this.#listenToTools();
    this.#listenToPointers();
    this.#stage.addEventListener("keydown", (event) => this.#key(event));
    byId("opacity").value = 100 * this.#opacity;
    this.#announce();
  }

  /** Show another radiograph, from the start. */
  show(picture, name) {
    this.#picture = picture;
    this.#map = null;
    byId("file-name").textContent = name;
    byId("geometry").textContent = `${picture.width} × ${picture.height}`;
    byId("empty").hidden = true;
    byId("tools").disabled = false;
    this.reset();
  }

  /** Lay a map over the radiograph, or none; `name` is the finding. */
  overlay(map, name) {
    this.#map = map;
    byId("map-name").textContent = name;
    const over = map ? `, with the map of ${name}` : "";
    this.#canvas.setAttribute("aria-label", this.#picture ? `Radiograph${over}` : "No radiograph yet");
    this.#render();
  }

  reset() {
    this.#change(START);
  }

  get picture() {
    return this.#picture;
  }

  get opacity() {
    return this.#opacity;
  }

  #change(part) {
    if (!this.#picture) return;
    const next = { ...this.#state, ...part };
    for (const [name, limits] of Object.entries(LIMITS)) next[name] = clamp(next[name], limits);
    this.#state = next;
    // The picture cannot be moved out of the stage.
    const { room } = this.#place();
    next.x = clamp(next.x, [-room.x, room.x]);
    next.y = clamp(next.y, [-room.y, room.y]);
    this.#announce();
    this.#render();
  }

  /** Zoom so that the point under (x, y), counted from the middle of the stage, stays where it is. */
  #zoom(factor, x = 0, y = 0) {
    const zoom = clamp(this.#state.zoom * factor, LIMITS.zoom);
    const grown = zoom / this.#state.zoom;
    this.#change({ zoom, x: x - (x - this.#state.x) * grown, y: y - (y - this.#state.y) * grown });
  }

  #move(x, y) {
    this.#change({ x: this.#state.x + x, y: this.#state.y + y });
  }

  /** Where the picture lies in the stage, and how far its middle may be moved, in CSS pixels. */
  #place() {
    const { clientWidth, clientHeight } = this.#stage;
    const { zoom, x, y } = this.#state;
    const fit = Math.min(clientWidth / this.#picture.width, clientHeight / this.#picture.height);
    const width = this.#picture.width * fit * zoom;
    const height = this.#picture.height * fit * zoom;
    return {
      x: (clientWidth - width) / 2 + x,
      y: (clientHeight - height) / 2 + y,
      width,
      height,
      room: { x: Math.max(0, (width - clientWidth) / 2), y: Math.max(0, (height - clientHeight) / 2) },
    };
  }

  #render() {
    cancelAnimationFrame(this.#pending);
    this.#pending = requestAnimationFrame(() => {
      const dense = window.devicePixelRatio || 1;
      this.#canvas.width = Math.round(this.#stage.clientWidth * dense);
      this.#canvas.height = Math.round(this.#stage.clientHeight * dense);
      if (!this.#picture) return;
      const { width, level, inverted } = this.#state;
      this.#picture.window(width, level, inverted);
      const context = this.#canvas.getContext("2d");
      context.scale(dense, dense);
      paint(context, this.#picture, this.#map, this.#opacity, this.#place());
    });
  }

  #announce() {
    const { width, level, zoom, inverted } = this.#state;
    byId("width").value = width;
    byId("level").value = level;
    byId("width-value").textContent = Math.round(width);
    byId("level-value").textContent = Math.round(level);
    byId("opacity-value").textContent = `${Math.round(100 * this.#opacity)} %`;
    byId("invert").setAttribute("aria-pressed", String(inverted));
    // A finger moves a picture that is larger than the stage, and else scrolls the page.
    this.#stage.classList.toggle("zoomed", zoom > 1);
    byId("window-text").textContent = this.#picture
      ? `W ${Math.round(width)}  L ${Math.round(level)}  ${zoom.toFixed(1)}×`
      : "";
  }

  #listenToTools() {
    byId("zoom-in").addEventListener("click", () => this.#zoom(ZOOM_STEP));
    byId("zoom-out").addEventListener("click", () => this.#zoom(1 / ZOOM_STEP));
    byId("invert").addEventListener("click", () => this.#change({ inverted: !this.#state.inverted }));
    byId("reset").addEventListener("click", () => this.reset());
    byId("width").addEventListener("input", (event) => this.#change({ width: Number(event.target.value) }));
    byId("level").addEventListener("input", (event) => this.#change({ level: Number(event.target.value) }));
    byId("opacity").addEventListener("input", (event) => {
      this.#opacity = Number(event.target.value) / 100;
      this.#announce();
      this.#render();
    });
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.#picture) return;
    const { width, level, inverted } = this.#state;
    const does = {
      "+": () => this.#zoom(ZOOM_STEP),
      "=": () => this.#zoom(ZOOM_STEP),
      "-": () => this.#zoom(1 / ZOOM_STEP),
      0: () => this.reset(),
      i: () => this.#change({ inverted: !inverted }),
      w: () => this.#change({ width: width + WINDOW_STEP }),
      s: () => this.#change({ width: width - WINDOW_STEP }),
      d: () => this.#change({ level: level + WINDOW_STEP }),
      a: () => this.#change({ level: level - WINDOW_STEP }),
      ArrowLeft: () => this.#move(MOVE_STEP, 0),
      ArrowRight: () => this.#move(-MOVE_STEP, 0),
      ArrowUp: () => this.#move(0, MOVE_STEP),
      ArrowDown: () => this.#move(0, -MOVE_STEP),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  #listenToPointers() {
    const stage = this.#stage;
    stage.addEventListener("pointerdown", (event) => {
      if (!this.#picture || event.button > 1) return;
      stage.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    });
    stage.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      stage.addEventListener(end, (event) => this.#pointers.delete(event.pointerId));
    }
    stage.addEventListener("dblclick", (event) => this.#zoom(2, ...this.#fromMiddle(event)));
    stage.addEventListener(
      "wheel",
      (event) => {
        if (!this.#picture) return;
        event.preventDefault();
        this.#zoom(ZOOM_STEP ** clamp(-event.deltaY / 100, [-1, 1]), ...this.#fromMiddle(event));
      },
      { passive: false },
    );
  }

  #drag(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const spread = this.#spread();
    const [x, y] = [event.clientX - before.x, event.clientY - before.y];
    this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.#pointers.size === 2) this.#zoom(this.#spread() / spread, ...this.#fromMiddle(event));
    else if (event.pointerType === "touch" || event.shiftKey || event.buttons & 4) this.#move(x, y);
    else this.#change({ width: this.#state.width + x, level: this.#state.level + y });
  }

  /** Distance of two fingers. */
  #spread() {
    const [first, second = first] = this.#pointers.values();
    return Math.hypot(first.x - second.x, first.y - second.y) || 1;
  }

  #fromMiddle(event) {
    const box = this.#stage.getBoundingClientRect();
    return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  }
}
