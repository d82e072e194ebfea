"""Write a copy of a video with a text on its frames: H.264, with the audio of the source."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paddlevideo.curate.resize import FORMATS, AudioNotCopied, WriteResized
from paddlevideo.log import logger
from paddlevideo.media.decode import VideoDecoder
from paddlevideo.plain_text import readable
from paddlevideo.sample import Record

UNLIMITED = 1 << 20  # short side of a copy with the size of the source (px)
CRF = 23  # quality of the copy; x264's default
LARGEST, SMALLEST = 0.05, 0.02  # height of the letters, as fractions of the frame's width
LEAST = 8  # of the letters (px)
MARGIN = 4  # around the letters, and to the edges of the frame (px)
BACKGROUND, LETTERS = (32, 32, 32), (255, 255, 255)
ELLIPSIS = "..."
MISSING = "\U0010fffe"  # no font has this letter

# Pillow's own font has English letters only. Fonts with letters of other languages, the most
# common ones first, and where systems keep fonts.
FONT_FILES = (
    *("DejaVuSans", "LiberationSans-Regular", "NotoSans-Regular", "Arial", "NotoSansCJK*"),
    *("SourceHanSans*", "wqy-*", "DroidSansFallback*", "PingFang*", "STHeiti*"),
    *("msyh*", "simhei*", "Arial Unicode*"),
)
FONT_FOLDERS = (
    *("~/.fonts", "~/.local/share/fonts", "/usr/share/fonts", "/usr/local/share/fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "C:/Windows/Fonts"),
)

Font = Any  # of Pillow


def write_annotated(
    source: str | Path,
    target: str | Path,
    text: str,
    other_text: str = "",
    font: str | Path | None = None,
) -> Path:
    """Write a copy of a video with `text` in the upper left corner of each frame.

    Frames are read and written one by one. They keep their times and their size, except that an
    odd side loses or gains a pixel, as H.264 requires.

    Args:
        target: an .mp4 or .mkv file; an earlier one is replaced.
        other_text: drawn instead where no font on this machine has the letters of `text`.
        font: a TrueType or OpenType file; None for Pillow's own, or one of this machine that has
            all letters.

    Returns:
        the target.

    Raises:
        DecodeError: the source is not a video, or is damaged.
        ValueError: another suffix, or `font` is no font.
        OSError: the target cannot be written.
    """
    source, target = Path(source), Path(target)
    if target.suffix.lower() not in FORMATS:
        raise ValueError(f"{target}: expected a file name that ends with {' or '.join(FORMATS)}")
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"{target}: the copy would replace the video itself; choose another path")
    label = make_label(text, other_text, font)
    options = {"short_side": UNLIMITED, "crf": CRF, "suffix": target.suffix.lower()}
    try:
        WriteResized(**options, draw=label.draw)(str(source), str(target))
    except AudioNotCopied as error:
        logger.warning(f"{target}: written without audio: {error}")
        WriteResized(**options, sound="none", draw=label.draw)(str(source), str(target))
    return target


def read_annotated(
    source: str | Path, text: str, other_text: str = "", font: str | Path | None = None
) -> tuple[np.ndarray, float]:
    """All frames of a video with `text` in their upper left corners, and its frames per second.

    Arguments and errors are those of `write_annotated`.

    Returns:
        frames uint8 [T, H, W, 3] RGB, and the rate, 0.0 if unknown.
    """
    label = make_label(text, other_text, font)
    with VideoDecoder().open(Record(str(source))) as clip:
        frames = clip.read(np.arange(clip.num_frames))
        fps = clip.fps
    height, width = frames.shape[1:3]
    image = label_image(label.text, label.font, width, height)
    image = image[: height - MARGIN, : width - MARGIN]
    frames[:, MARGIN : MARGIN + image.shape[0], MARGIN : MARGIN + image.shape[1]] = image
    return frames, fps


def make_label(text: str, other_text: str, font: str | Path | None) -> "Label":
    """A label with `text`, or with `other_text` where no font has the letters of `text`.

    Raises:
        ValueError: `font` is given and is no font.
    """
    path = find_font(text, font)
    if path is None:
        logger.warning(
            f"no font on this machine has the letters of {readable(text)!r}, so "
            f"{readable(other_text)!r} is drawn; give a font file with font=..."
        )
        return Label(other_text, "")
    return Label(text, path)


# --- fonts ----------------------------------------------------------------------------------------


def find_font(text: str, font: str | Path | None = None) -> str | None:
    """A font file for a text; "" for Pillow's own font, None if no font has all of its letters.

    Raises:
        ValueError: `font` is given and is no font.
    """
    if font is not None:
        load_font(font, LEAST)
        return str(font)
    return next((path for path in ("", *_system_fonts()) if has_letters(path, text)), None)


def _system_fonts() -> Iterator[str]:
    for folder in FONT_FOLDERS:
        for pattern in FONT_FILES:
            yield from sorted(map(str, Path(folder).expanduser().rglob(f"{pattern}.[toTO]t[cfCF]")))


def has_letters(path: str, text: str) -> bool:
    """Whether a font has all letters of a text; False for a file that is no font."""
    try:
        font = load_font(path, 16)
    except ValueError:
        return False
    box = bytes(font.getmask(MISSING))  # fonts show a box in place of a letter that they lack
    return all(bytes(font.getmask(c)) != box for c in set(text) if not c.isspace())


def load_font(path: str | Path, size: int) -> Font:
    """A font of a size (px); "" is Pillow's own.

    Raises:
        ValueError: the file is no font.
    """
    if not path:
        return ImageFont.load_default(size)
    try:
        with open(path, "rb") as file:  # for a path, Pillow may open another file of this name
            return ImageFont.truetype(file, size)
    except OSError as error:
        raise ValueError(
            f"{path}: not a font file ({error}); expected TrueType or OpenType"
        ) from None


# --- drawing --------------------------------------------------------------------------------------


class Label:
    """A text, drawn once and copied to all frames of a video.

    Args:
        font: a font file, "" for Pillow's own.
    """

    def __init__(self, text: str, font: str):
        self.text, self.font = text, font
        self._planes: dict[tuple[int, int], list[np.ndarray]] = {}  # by the size of the frame

    def draw(self, frame: Any) -> None:
        """Draw the label on a yuv420p frame of PyAV, in its memory."""
        size = (frame.width, frame.height)
        if size not in self._planes:
            self._planes[size] = yuv_planes(label_image(self.text, self.font, *size))
        for plane, part, step in zip(frame.planes, self._planes[size], (1, 2, 2), strict=True):
            pixels = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            at, (height, width) = MARGIN // step, part.shape
            height = min(height, frame.height // step - at)
            width = min(width, frame.width // step - at)
            if height > 0 and width > 0:
                pixels[at : at + height, at : at + width] = part[:height, :width]


def label_image(text: str, font: str, width: int, height: int) -> np.ndarray:
    """A text on a dark box: uint8 [h, w, 3] RGB with even sides.

    The letters become smaller so that the text fits the frame; a longer text is cut.

    Args:
        width, height: of the frame (px).
    """
    room = width - 4 * MARGIN
    smallest = max(LEAST, round(width * SMALLEST))
    sizes = range(max(smallest, min(round(width * LARGEST), height // 4)), smallest - 1, -1)
    fonts = (load_font(font, size) for size in sizes)
    chosen = next((f for f in fonts if f.getlength(text) <= room), load_font(font, smallest))
    if chosen.getlength(text) > room:
        while len(text) > 1 and chosen.getlength(text + ELLIPSIS) > room:
            text = text[:-1]
        text += ELLIPSIS
    left, top, right, bottom = chosen.getbbox(text)
    even_width, even_height = (
        int(n + 2 * MARGIN + 1) // 2 * 2 for n in (right - left, bottom - top)
    )
    image = Image.new("RGB", (even_width, even_height), BACKGROUND)
    ImageDraw.Draw(image).text((MARGIN - left, MARGIN - top), text, fill=LETTERS, font=chosen)
    return np.asarray(image)


def yuv_planes(image: np.ndarray) -> list[np.ndarray]:
    """The planes of an RGB image with even sides as yuv420p: [h, w], and twice [h/2, w/2]."""
    frame: Any = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
    sizes = ((frame.height, frame.width), *[(frame.height // 2, frame.width // 2)] * 2)
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :width].copy()
        for plane, (height, width) in zip(frame.planes, sizes, strict=True)
    ]
