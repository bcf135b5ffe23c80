"""Render the sheet in `phantom.md`: every finding beside the same thorax without it.

python docs/render_phantoms.py
"""

from pathlib import Path

from PIL import Image, ImageDraw

from trcgl.phantom.findings import FINDINGS
from trcgl.phantom.render import PhantomSpec, render

SIDE, LINE, COLUMNS = 144, 16, 5
CHOSEN = {"aortic elongation": 8, "Support Devices": 5, "Mass": 8, "fracture": 3, "Subcutaneous Emphysema": 6}
"""Finding to number of the image, where the default image is a faint example."""


def main() -> None:
    """Write `images/phantoms.png`."""
    names = [name for name in FINDINGS if name != "Normal"]
    rows = -(-len(names) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * (2 * SIDE + 8) - 8, rows * (SIDE + LINE)), 255)
    pen = ImageDraw.Draw(sheet)
    for place, name in enumerate(names):
        image = CHOSEN.get(name, place)
        x, y = place % COLUMNS * (2 * SIDE + 8), place // COLUMNS * (SIDE + LINE)
        pen.text((x + 2, y + 2), name, fill=0)
        for side, findings in enumerate(((), (name,))):
            spec = PhantomSpec(5, place, image, findings, age=40 + place, sex="FM"[place % 2], size=SIDE)
            sheet.paste(Image.fromarray(render(spec).pixels), (x + side * SIDE, y + LINE))
    folder = Path(__file__).parent / "images"
    folder.mkdir(exist_ok=True)
    sheet.save(folder / "phantoms.png", optimize=True)


if __name__ == "__main__":
    main()
