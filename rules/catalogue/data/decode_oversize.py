"""data-decode-oversize."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.batch_cost import NEEDS, BatchCost
from trainprof.rules.reading import (
    duration,
    is_on,
    needed,
    number,
    observed,
    percent,
    place,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule

PHOTOS = {
    "step.data_wait_share": (0.85, 0.83, 0.87),
    "loader.num_workers": 0,
    "loader.producer_wall_s": 0.07,
    "loader.producer_cpu_s": 0.068,
    "loader.consumer_s": 0.012,
    "loader.consumer_cpu_s": 0.012,
    "loader.dataset_where": {"file": "train.py", "line": 14},
    "host.usable_cores": 2.0,
    "dataset.batch_s": 0.068,
    "dataset.batch_size": 16,
    "dataset.item_s": 0.0042,
    "dataset.decoded_pixels": 262144.0,
    "dataset.delivered_pixels": 4096.0,
    "dataset.decode_s": 0.0022,
    "dataset.resize_s": 0.0014,
    "dataset.image_crops": 0.0,
    "dataset.image_format": "JPEG",
    "dataset.draws_random_numbers": False,
}


class DecodeOversize(Rule):
    """Images are decoded far larger than the model gets them.

    ## What it finds
    Photographs of many hundred pixels a side, decoded in full in each epoch and then shrunk to the
    few dozen that the network takes.

    ## Why it costs time
    Decoding and shrinking take time in proportion to the pixels of the file.
    Of a photograph of 512 pixels a side that ends up with 64, 63 in 64 pixels are decoded to be
    thrown away, in each epoch.

    ## Evidence needed
    - Pillow's decoding and resizing were timed by the dataset probe while it fetched items: at
      least 4 times as many pixels are decoded as delivered.
    - Decoding and resizing are at least 30 % of a batch's time, and at least 5 % of the step goes
      with what they could save.

    The interval: above, both become cheaper by the ratio of pixels; below, by a quarter of that, as
    opening a file and smaller images have a cost of their own. Measured for JPEG of 512 pixels to
    64, against files that were shrunk beforehand: 16 to 20 times faster steps where the loader
    bounds them.

    ## Fix
    Shrink the files once, to the size that the transforms need (with some room where they
    crop), and train on those. Or, for JPEG, let the decoder skip: `image.draft("RGB", size)` before
    the image is read decodes at 1/2, 1/4 or 1/8 of the size.

    ## Fix safety
    Numerics: another interpolation, and for JPEG a second loss of detail (keep quality at 95 or use
    PNG). With random crops it is **semantics**: the crops then see less detail.

    ## When it is wrong
    - Random crops of the full image need its resolution: where the probe sees random crops, this is
      a note only.
    - Training at several sizes needs the largest of them.
    - Decoders other than Pillow (OpenCV, torchvision's own, GPU decoders) are not seen.

    ## References
    - Pillow, Image.draft:
      https://pillow.readthedocs.io/en/stable/reference/Image.html#PIL.Image.Image.draft
    - FFCV, data set storage (max_resolution): https://docs.ffcv.io/writing_datasets.html
    - Mohan et al., Analyzing and mitigating data stalls in DNN training:
      https://arxiv.org/abs/2007.06775
    """

    id = "data-decode-oversize"
    title = "Images are decoded far larger than used"
    needs = (
        *NEEDS,
        "dataset.batch_size",
        "dataset.decoded_pixels",
        "dataset.delivered_pixels",
        "dataset.decode_s",
        "dataset.resize_s",
    )
    suppresses = (
        "data-workers-under",
        "data-cacheable",
        "data-transform-cost",
        "data-small-files",
    )
    fires_on = (
        Case("photographs for a network of 64 pixels", PHOTOS, severity="critical", gain=(2.5, 4)),
        Case(
            "random crops of the full image",
            {**PHOTOS, "dataset.image_crops": 1.0, "dataset.draws_random_numbers": True},
            severity="info",
        ),
    )
    silent_on = (
        Case("images of about the right size", {**PHOTOS, "dataset.decoded_pixels": 12000.0}),
        Case(
            "decoding is a small part of an item",
            {**PHOTOS, "dataset.decode_s": 0.0003, "dataset.resize_s": 0.0002},
        ),
        Case("workers hide it", {**PHOTOS, "step.data_wait_share": (0.02, 0.015, 0.025)}),
    )

    min_pixel_ratio = 4.0
    """Pixels decoded over pixels delivered: twice the side (a starting value)."""
    min_part = 0.30
    """Of a batch's time (a starting value)."""
    min_share = 0.05
    """Share of the step; XProf calls an input-bound step moderate from 5 %."""
    sure_part_of_ratio = 0.25
    """What of the ratio of pixels the lower end of the interval counts on."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the pixels decoded with those delivered, and asks what decoding costs."""
        cost = BatchCost.of(signals)
        decoded = needed(signals, "dataset.decoded_pixels")
        ratio = decoded / max(needed(signals, "dataset.delivered_pixels"), 1.0)
        if cost is None or ratio < self.min_pixel_ratio:
            return
        per_item = needed(signals, "dataset.decode_s") + needed(signals, "dataset.resize_s")
        part = cost.part(needed(signals, "dataset.batch_size") * per_item)
        share, share_low = cost.share(part * (1.0 - 1.0 / ratio))
        if part < self.min_part or share < self.min_share:
            return
        crops = (number(signals, "dataset.image_crops") or 0.0) > 0.0
        random_crops = crops and is_on(signals, "dataset.draws_random_numbers")
        yield Candidate(
            summary=(
                f"{ratio:.0f} times as many pixels are decoded as the model gets; decoding and "
                f"resizing take {duration(per_item)} a sample, {percent(part)} of preparing a "
                "batch."
            ),
            evidence=(
                *observed(signals, "step.data_wait_share"),
                *observed(signals, "dataset.decoded_pixels"),
                *observed(signals, "dataset.delivered_pixels"),
                *observed(signals, "dataset.decode_s"),
                *observed(signals, "dataset.resize_s"),
                *observed(signals, "dataset.batch_s"),
            ),
            share=share,
            share_low=share_low,
            gain=cost.gain(part, max(ratio * self.sure_part_of_ratio, 1.5), ratio),
            where=place(signals, "dataset.part_where") or place(signals, "loader.dataset_where"),
            fixes=(self._advice(signals, random_crops),),
            max_severity="info" if random_crops else "critical",
        )

    def _advice(self, signals: Signals, random_crops: bool) -> FixAdvice:
        words = "Shrink the files once to the size that is used, and train on those."
        jpeg = "JPEG" in (text(signals, "dataset.image_format") or "")
        if random_crops:
            words = "Shrink the files once to the smallest size that the random crops still need."
        elif jpeg:
            words += " Or let the JPEG decoder skip most of each image."
        return FixAdvice(
            fix="images-smaller",
            params={},
            safety="semantics" if random_crops else "numerics",
            text=words,
            code='image.draft("RGB", (side, side))  # after Image.open' if jpeg else None,
        )
