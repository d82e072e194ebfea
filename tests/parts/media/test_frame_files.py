"""Which files of a folder are frames: named by a pattern, or numbered images of any name."""

import pytest

from paddlevideo.media.decode import FrameDecoder
from paddlevideo.media.frame_files import frame_files, naming_note
from paddlevideo.sample import DecodeError, Record
from tests.parts.media.test_frame_folders import write_frames

PATTERN = "img_{:05}.jpg"


def names(text: str, numbers) -> list[str]:
    return [text.format(number) for number in numbers]


@pytest.mark.parametrize(
    ("files", "others"),
    [
        (names(PATTERN, range(1, 41)), ["img_1.png", "Thumbs.db", "x1.jpg"]),
        (names(PATTERN, range(40)), []),
        (names(PATTERN, [0]), []),
        (names("frame_{:04}.png", range(40)), ["readme.txt", "frame_.png", "labels.json"]),
        (names("{}.JPG", range(1, 41)), [".DS_Store"]),
        (names("clip-2024 {:03}.JPEG", range(1, 1200)), []),
        (names("a.{:06}.webp", range(3)), ["a.mp4"]),
        ([], ["a.jpg", "notes.txt", "1.txt"]),
    ],
)
def test_finds_the_frames_in_order(files, others):
    assert frame_files(sorted([*others, *files], reverse=True), PATTERN) == files


@pytest.mark.parametrize(
    "pattern",
    ["cam1_{:05}.jpg", "img_{:05}.jp2", "v_3_{}.png", "1_{:02}_2.png", "{0:05}_{0}.jpg"],
)
@pytest.mark.parametrize("first", [0, 1])
def test_a_pattern_with_a_number_of_its_own(pattern, first):
    files = names(pattern, range(first, 12))
    assert frame_files(files[::-1], pattern) == files


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            names(PATTERN, [*range(1, 10), *range(11, 41)]),
            "frames are missing: 39 files, img_00001.jpg to img_00040.jpg, but none between "
            "img_00009.jpg and img_00011.jpg; copy",
        ),
        (names("{}.png", [1, 2, 3, 9]), "none between 3.png and 9.png"),
        (names("{}.png", [0, 5, 10, 15]), "none between 0.png and 5.png"),
        (names(PATTERN, range(2, 41)), "img_00002.jpg is the first one, expected number 0 or 1"),
        (["1.png", "01.png", "2.png"], "01.png and 1.png have the same number"),
        (
            [*names("flow_x_{:03}.jpg", range(3)), *names("flow_y_{:03}.jpg", range(3))],
            "no file is called as .*, and several series of images may be its frames: "
            "flow_x_000.jpg to flow_x_002.jpg or flow_y_000.jpg to flow_y_002.jpg; choose one with",
        ),
        ([*names("{}.png", range(3)), *names("{}.jpg", range(3))], "0.jpg to 2.jpg or 0.png to"),
    ],
)
def test_refuses_what_is_ambiguous_or_incomplete(files, message):
    with pytest.raises(DecodeError, match=message):
        frame_files(files, PATTERN)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("img_{:05}.png", 1),
        ("img_{:05}.png", 0),
        ("{}.PNG", 0),
        ("f {:03}.webp", 1),
    ],
)
def test_reads_every_frame_whatever_its_name(tmp_path, text, start, listed):
    frames = write_frames(tmp_path, 12, text, start)
    pattern = "img_{:05}.png"
    item = Record(str(tmp_path), frame_pattern=pattern, num_frames=12 if listed else None)
    with FrameDecoder().open(item) as clip:
        assert clip.num_frames == 12
        read = clip.read(list(range(12)))
    if not text.endswith("webp"):  # it is not lossless
        assert (read == frames).all()
    as_usual = text == pattern and start == 1
    last = text.format(start + 11)
    expected = "" if as_usual else f"{tmp_path}: 12 frames, {text.format(start)} to {last}"
    assert naming_note(tmp_path, pattern) == expected


def test_a_list_decides_how_many_of_the_frames_are_used(tmp_path):
    frames = write_frames(tmp_path, 10, "img_{:05}.png", 0)
    pattern = "img_{:05}.png"
    cases = {9: frames[1:], 10: frames, 4: frames[1:5]}  # 1 .. 9 as in PaddleVideo's lists; 0 .. 9
    for num_frames, expected in cases.items():
        item = Record(str(tmp_path), frame_pattern=pattern, num_frames=num_frames)
        with FrameDecoder().open(item) as clip:
            assert (clip.read(list(range(num_frames))) == expected).all()
    item = Record(str(tmp_path), frame_pattern=pattern, num_frames=11)
    message = "11 frames expected, the folder has 10: img_00000.png to img_00009.png"
    with pytest.raises(DecodeError, match=message), FrameDecoder().open(item):
        pass
