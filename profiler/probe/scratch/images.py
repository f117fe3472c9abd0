"""How large images are decoded, against what the network gets; through Pillow."""

from __future__ import annotations

import sys
import time
from typing import Any

from . import randomness
from .contents import is_array, is_image, is_tensor, leaves
from .items import Items

MOST_DECODED = 32
LEAST_SIDE = 8


class Decoding:
    """Counts and times Pillow's decoding and resizing between `install` and `remove`."""

    def __init__(self) -> None:
        self.pixels = 0
        self.images = 0
        self.formats: set[str] = set()
        self.decode_s = 0.0
        self.resize_s = 0.0
        self.crops = 0
        self._inside = False  # a resize that converts is one
        self._restore: list[tuple[Any, str, Any]] = []

    def install(self) -> None:
        """Wraps `load`, `resize`, `thumbnail`, `convert` (which copies) and `crop`."""
        files, image = sys.modules["PIL.ImageFile"].ImageFile, sys.modules["PIL.Image"].Image
        self._wrap(files, "load", self._load)
        for name in ("resize", "thumbnail", "convert"):
            self._wrap(image, name, self._resize)
        self._wrap(image, "crop", self._crop)

    def remove(self) -> None:
        """Puts Pillow's own functions back."""
        for owner, name, original in self._restore:
            setattr(owner, name, original)

    def _wrap(self, owner: Any, name: str, make: Any) -> None:
        original = getattr(owner, name)
        self._restore.append((owner, name, original))
        setattr(owner, name, make(original))

    def _load(self, original: Any) -> Any:
        def load(image: Any, *args: Any, **kwargs: Any) -> Any:
            decodes = bool(getattr(image, "tile", None))
            start = time.perf_counter()
            result = original(image, *args, **kwargs)
            if decodes:
                self.decode_s += time.perf_counter() - start
                self.pixels += image.size[0] * image.size[1]
                self.images += 1
                self.formats.add(str(image.format))
            return result

        return load

    def _resize(self, original: Any) -> Any:
        def resize(image: Any, *args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return original(image, *args, **kwargs)
            image.load()
            self._inside = True
            start = time.perf_counter()
            try:
                return original(image, *args, **kwargs)
            finally:
                self.resize_s += time.perf_counter() - start
                self._inside = False

        return resize

    def _crop(self, original: Any) -> Any:
        def crop(image: Any, *args: Any, **kwargs: Any) -> Any:
            self.crops += 1
            return original(image, *args, **kwargs)

        return crop


def measure_decoding(items: Items, deadline: float, item_s: float) -> dict[str, Any] | None:
    """Pixels decoded and pixels delivered; None where no item decodes an image."""
    if "PIL.ImageFile" not in sys.modules:
        return None
    watch = Decoding()
    delivered, count, wall = 0, 0, 0.0
    items.rewind()
    watch.install()
    try:
        for index in items.order()[:MOST_DECODED]:
            randomness.seed(1)
            start = time.perf_counter()
            item = items.fetch(index)
            wall += time.perf_counter() - start
            delivered += _pixels(item)
            count += 1
            if time.perf_counter() > deadline and count >= 2:
                break
    finally:
        watch.remove()
    if not watch.images or not delivered or not wall:
        return None
    scale = item_s / wall
    return {
        "decoded_pixels": watch.pixels / count,
        "delivered_pixels": delivered / count,
        "decode_s": watch.decode_s * scale,
        "resize_s": watch.resize_s * scale,
        "image_crops": watch.crops / count,
        "image_format": ", ".join(sorted(watch.formats)),
    }


def _pixels(item: Any) -> int:
    """Pixels of all images of an item, as the network gets them."""
    total = 0
    for _, leaf in leaves(item):
        if is_image(leaf):
            total += leaf.width * leaf.height
        elif (is_tensor(leaf) or is_array(leaf)) and leaf.ndim in (2, 3):
            shape = sorted(int(side) for side in leaf.shape)[-2:]
            if shape[0] >= LEAST_SIDE:
                total += shape[0] * shape[1]
    return total
