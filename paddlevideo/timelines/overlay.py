"""Draw the classes of a time on a frame: bars in a corner, the timeline along the lower edge."""

import colorsys
from bisect import bisect
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from paddlevideo.log import logger
from paddlevideo.plain_text import readable
from paddlevideo.predict.annotate import (
    BACKGROUND,
    ELLIPSIS,
    LEAST,
    LETTERS,
    MARGIN,
    Font,
    find_font,
    load_font,
)
from paddlevideo.timelines.segments import Segment

LIVE_SECONDS = 60.0  # of a live timeline that the strip shows
LETTER_SIDE = 0.03  # height of letters, as a fraction of the frame's shorter side
PANEL_WIDTH = 0.5  # of the frame
PANEL_HEIGHT = 0.6  # of the frame, at most
STRIP_HEIGHT = 0.03  # of the frame
LEAST_STRIP = 4  # px
OPACITY = 0.75  # of the panel
FAILED = (120, 40, 40)  # color of a part that has no classes
TRACK = (48, 48, 48)  # color of the strip where nothing is known
CURSOR = (255, 255, 255)
FAINTEST = 0.3  # share of a class's color at a score of 0
GOLDEN = 0.618033988749895  # hues of neighboring class ids are far from each other


def color_of(class_id: int) -> tuple[int, int, int]:
    """The color of a class, dark enough for white letters."""
    red, green, blue = colorsys.hsv_to_rgb((class_id * GOLDEN) % 1.0, 0.7, 0.7)
    return round(red * 255), round(green * 255), round(blue * 255)


class Overlay:
    """The results of windows, and how they are drawn on frames.

    Args:
        names: of all classes that may be drawn, to find a font that has their letters. Where none
            has them, class ids are drawn.
        seconds: length of the timeline; None for a live one, where frames show the newest result
            and the strip the last minute.
        font: a TrueType or OpenType file; None to find one.

    Raises:
        ValueError: `font` is no font.
    """

    def __init__(self, names: Iterable[str], seconds: float | None = None, font: str | None = None):
        letters = "".join(sorted(set("".join(map(readable, names))))) + "0123456789.:class"
        path = find_font(letters, font)
        self._has_letters = path is not None
        if path is None:
            logger.warning("no font on this machine has the letters of all class names; class ids "
                           "are drawn instead")  # fmt: skip
        self._font, self._seconds = path or "", seconds
        self._results: list[Segment] = []
        self._begins: list[float] = []
        self._panels: dict[tuple[int, int], tuple[Segment, np.ndarray]] = {}
        self._strips: dict[tuple[int, int], np.ndarray] = {}

    def add(self, result: Segment) -> None:
        """Add the result of the next window. Neighbors that overlap meet in the middle."""
        begin = result.start
        if self._results and self._results[-1].end > begin:
            begin = max(begin, (centre(self._results[-1]) + centre(result)) / 2)
        self._results.append(result)
        self._begins.append(begin)
        self._strips.clear()
        while self._seconds is None and self._results[0].end < result.end - LIVE_SECONDS:
            del self._results[0], self._begins[0]

    def at(self, time: float) -> Segment | None:
        """The result that a frame shows; None if there is none."""
        if self._seconds is None:
            return self._results[-1] if self._results else None
        number = bisect(self._begins, time) - 1
        return self._results[number] if number >= 0 and time <= self._results[number].end else None

    def draw(self, image: np.ndarray, time: float) -> None:
        """Draw on a frame, in its memory.

        Args:
            image: uint8 [H, W, 3] RGB.
            time: of the frame (s).
        """
        result = self.at(time)
        if result is not None:
            panel = self._panel(result, image.shape[1], image.shape[0])
            part = image[MARGIN : MARGIN + panel.shape[0], MARGIN : MARGIN + panel.shape[1]]
            panel = panel[: part.shape[0], : part.shape[1]]
            part[:] = (part * (1 - OPACITY) + panel * OPACITY).astype(np.uint8)
        height = min(image.shape[0], max(LEAST_STRIP, round(image.shape[0] * STRIP_HEIGHT)))
        image[-height:] = self._strip(image.shape[1], time)

    # --- the bars -----------------------------------------------------------------------------

    def _panel(self, result: Segment, width: int, height: int) -> np.ndarray:
        known = self._panels.get((width, height))
        if known is None or known[0] is not result:
            known = result, self._draw_panel(result, width, height)
            self._panels = {(width, height): known}
        return known[1]

    def _draw_panel(self, result: Segment, width: int, height: int) -> np.ndarray:
        """The names and scores of a result: uint8 [h, w, 3]."""
        size = max(LEAST, round(min(width, height) * LETTER_SIDE))
        font, row = load_font(self._font, size), round(size * 1.7)
        if result.error is not None:
            rows: list[tuple[str, float | None, tuple[int, int, int]]] = [
                (readable(result.error), None, FAILED)
            ]
        else:
            columns = zip(result.class_ids, result.scores, result.label_names, strict=True)
            rows = [(self._name(i, name), score, color_of(i)) for i, score, name in columns]
        rows = rows[: max(1, int(height * PANEL_HEIGHT) // row)]
        panel_width = max(2, min(width - 2 * MARGIN, max(round(width * PANEL_WIDTH), 16 * size)))
        panel = Image.new("RGB", (panel_width, row * len(rows)), BACKGROUND)
        canvas = ImageDraw.Draw(panel)
        for number, (name, score, color) in enumerate(rows):
            top, share = number * row, 1.0 if score is None else min(max(score, 0.0), 1.0)
            bar = round(share * (panel_width - 1))
            canvas.rectangle((0, top + 1, bar, top + row - 2), fill=color)
            write = partial(canvas.text, fill=LETTERS, font=font)
            number_text = "" if score is None else f"{score:.2f}"
            right = panel_width - MARGIN - round(font.getlength(number_text))
            write((right, top + row / 2), number_text, anchor="lm")
            name = fitting(name, font, right - 2 * MARGIN)
            write((MARGIN, top + row / 2), name, anchor="lm")
        return np.asarray(panel)

    def _name(self, class_id: int, name: str) -> str:
        return readable(name) if self._has_letters else f"class {class_id}"

    # --- the strip ------------------------------------------------------------------------------

    def _strip(self, width: int, time: float) -> np.ndarray:
        """A row of the strip with the cursor: uint8 [width, 3]."""
        start, seconds = 0.0, self._seconds
        if seconds is None:
            start, seconds = max(0.0, time - LIVE_SECONDS), LIVE_SECONDS
        key = (width, round(start * width / seconds) if self._seconds is None else 0)
        if key not in self._strips:
            self._strips = {key: self._draw_strip(width, start, seconds)}
        strip = self._strips[key].copy()
        column = round((time - start) / max(seconds, 1e-9) * (width - 1))
        half = max(1, width // 400)
        strip[max(0, min(column, width - 1) - half + 1) : column + half] = CURSOR
        return strip

    def _draw_strip(self, width: int, start: float, seconds: float) -> np.ndarray:
        strip = np.full((width, 3), TRACK, np.uint8)
        for begin, end, result in self._spans():
            first, last = ((t - start) / max(seconds, 1e-9) * width for t in (begin, end))
            color = np.array(FAILED if result.error is not None else color_of(result.class_ids[0]))
            if result.error is None:
                share = FAINTEST + (1 - FAINTEST) * min(max(result.scores[0], 0.0), 1.0)
                color = color * share + np.array(TRACK) * (1 - share)
            strip[max(0, round(first)) : max(0, round(last))] = color.astype(np.uint8)
        return strip

    def _spans(self) -> Iterator[tuple[float, float, Segment]]:
        """(begin, end, result): what each result has of the strip (s)."""
        for number, (begin, result) in enumerate(zip(self._begins, self._results, strict=True)):
            following = self._begins[number + 1 : number + 2]
            yield begin, min([result.end, *following]), result


def centre(result: Segment) -> float:
    """The middle of a part (s)."""
    return (result.start + result.end) / 2


def fitting(text: str, font: Font, room: float) -> str:
    """A text, cut so that it fits.

    Args:
        room: px.
    """
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + ELLIPSIS) > room:
        text = text[:-1]
    return text + ELLIPSIS if text else ""
