// Painting: the radiograph through a window, and a map over it.

/** Decode the data URI of a picture. */
export async function decode(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

/** Whether a map is transparent everywhere. */
export function isBlank(map) {
  const context = sheet(map.naturalWidth, map.naturalHeight).getContext("2d", { willReadFrequently: true });
  context.drawImage(map, 0, 0);
  const { data } = context.getImageData(0, 0, map.naturalWidth, map.naturalHeight);
  for (let at = 3; at < data.length; at += 4) if (data[at] > 0) return false;
  return true;
}

/** A radiograph of 8 bits that is shown through a window. */
export class Picture {
  #asked = "";
  #gray;
  #shown;

  constructor(image) {
    this.width = image.naturalWidth;
    this.height = image.naturalHeight;
    this.#shown = sheet(this.width, this.height);
    const context = this.#shown.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, this.width, this.height);
    this.#gray = new Uint8Array(this.width * this.height);
    for (let pixel = 0; pixel < this.#gray.length; pixel++) this.#gray[pixel] = data[4 * pixel];
  }

  /** The canvas that holds the picture through the window last set. */
  get canvas() {
    return this.#shown;
  }

  /** Gray values from `level - width / 2` to `level + width / 2` become black to white, or white to black. */
  window(width, level, inverted) {
    const asked = `${width} ${level} ${inverted}`;
    if (asked === this.#asked) return; // it was only moved
    this.#asked = asked;
    const table = Uint8ClampedArray.from({ length: 256 }, (_, value) => (255 * (value - level)) / width + 127.5);
    if (inverted) table.forEach((value, at) => (table[at] = 255 - value));
    const context = this.#shown.getContext("2d");
    const picture = context.createImageData(this.width, this.height);
    const words = new Uint32Array(picture.data.buffer);
    const colors = Uint32Array.from(table, (value) => (0xff000000 | (value * 0x010101)) >>> 0);
    this.#gray.forEach((value, at) => (words[at] = colors[value]));
    context.putImageData(picture, 0, 0);
  }
}

/** Paint the picture, and the map over it, into a rectangle of a context. */
export function paint(context, picture, map, opacity, { x, y, width, height }) {
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture.canvas, x, y, width, height);
  if (!map) return;
  context.globalAlpha = opacity;
  context.drawImage(map, x, y, width, height);
  context.globalAlpha = 1;
}

/** The picture with its map and a line of words below, as a PNG. */
export function poster(picture, map, opacity, words) {
  const scale = Math.max(1, 640 / picture.width);
  const width = Math.round(picture.width * scale);
  const height = Math.round(picture.height * scale);
  const line = 26;
  const canvas = sheet(width, height + line * words.length + 14);
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  paint(context, picture, map, opacity, { x: 0, y: 0, width, height });
  context.fillStyle = "#e6ebf0";
  context.font = "16px system-ui, sans-serif";
  words.forEach((text, row) => context.fillText(text, 12, height + line * (row + 1), width - 24));
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function sheet(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}
