from pathlib import Path

from tests.dataset.source_fixtures import Case
from trcgl.dataset.sources.phantom import Options, read, render_again, specification
from trcgl.phantom.boxes import boxes

OPTIONS = Options(train_images=30, positives_per_finding=1, size=32)


def build(folder: Path) -> Case:
    """A few phantoms: there is no archive, so what must come out is what each image was specified to show."""
    rows = read(None, OPTIONS).rows
    images = rows["image_id"].to_list()
    return Case(
        root=None,
        present={image: set(specification(image, OPTIONS).findings) for image in images},
        boxes=sum(len(boxes(mask)) for image in images for mask in render_again(image, OPTIONS).masks.values()),
        official={image: image.split("-")[2] for image in images},
        options=OPTIONS,
    )
