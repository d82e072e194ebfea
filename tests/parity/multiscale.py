"""The boxes of `MultiScaleCrop` against those of the reference."""

from paddlevideo.data.crops import MultiScaleCrop


def check_boxes(case: dict) -> None:
    """Assert that all boxes to draw from are those of a case, in its order.

    Args:
        case: size of the frame (w, h), target_size and flags; the number of sizes; boxes as [pair,
            corner, x0, y0, x1, y1 in fractions of pixels, left, top, width, height in pixels].
    """
    crop = MultiScaleCrop(case["target_size"], **case["flags"])
    sizes = crop.sizes(case["w"], case["h"])
    boxes = []
    for pair, (width, height) in enumerate(sizes):
        for corner, (x, y) in enumerate(crop.offsets(case["w"], case["h"], width, height)):
            left, top, right, bottom = crop.box(x, y, width, height)
            box = [x, y, x + width, y + height, left, top, right - left, bottom - top]
            boxes.append([pair, corner, *box])
    assert len(sizes) == case["n_pairs"]
    assert boxes == case["boxes"], case["flags"]
