"""The kinds of faults that a check of a data set reports."""

from typing import NamedTuple


class FaultKind(NamedTuple):
    """A kind of fault.

    Args:
        title: a short heading.
        left_out: clips with this fault are left out of the written lists.
        advice: how to fix it.
    """

    title: str
    left_out: bool
    advice: str


class Fault(NamedTuple):
    """One fault of a data set.

    Args:
        kind: a key of KINDS.
        path: the file as its list or folder names it; the class for a fault of a class; "" for a
            fault of a line or of the complete set.
        text: what is wrong.
        location: file:line of the list that names the file, "" for files of a folder.
    """

    kind: str
    path: str
    text: str
    location: str = ""

    def __str__(self):
        return ": ".join(part for part in (self.location, self.path, self.text) if part)


# The keys are part of the formats of bad_files.csv and check.json. Reports keep this order.
KINDS = {
    # Faults of a file.
    "missing": FaultKind(
        "no such file", True, "fix the path in the list, or download the file again"
    ),
    "folder": FaultKind("a folder, not a file", True, "list the file itself"),
    "empty": FaultKind("empty file", True, "download it again"),
    "truncated": FaultKind("truncated file", True, "download or record it again"),
    "damaged": FaultKind(
        "damaged file",
        True,
        "download it again; `ffmpeg -i OLD -c copy NEW` repairs some containers",
    ),
    "damaged_audio": FaultKind(
        "damaged audio", False, "download it again; silence replaces what cannot be decoded"
    ),
    "not_video": FaultKind("not a video", True, "delete it, or download the video again"),
    "no_video": FaultKind(
        "no video stream",
        True,
        "delete it, or download the file with its video stream; --media audio checks audio",
    ),
    "not_audio": FaultKind("not an audio file", True, "delete it, or download the file again"),
    "no_audio": FaultKind(
        "no audio in it", True, "delete it, or download the file with its audio stream"
    ),
    "silent": FaultKind("silence", False, "record it again, or delete it if its class has audio"),
    "clipped": FaultKind(
        "clipped audio",
        False,
        "record it again at a lower level",
    ),
    "no_frames": FaultKind("no frames", True, "record it again"),
    "too_short": FaultKind("too short", True, "delete it, or lower --min_frames or --min_seconds"),
    "size_changes": FaultKind(
        "the frame size changes",
        True,
        "re-encode it at one size: `ffmpeg -i OLD -vf scale=W:H NEW`",
    ),
    "bad_times": FaultKind("times outside the video", True, "fix start_sec and end_sec"),
    "crash": FaultKind(
        "crashes the decoder", True, "delete it, and consider reporting it to FFmpeg"
    ),
    # Faults of a file name.
    "wrong_suffix": FaultKind(
        "suffix of another format", False, "rename it; other programs rely on the suffix"
    ),
    "unknown_suffix": FaultKind(
        "a video or audio file without such a suffix", True, "give it a suffix of its format"
    ),
    "respelt": FaultKind(
        "the list spells the path differently from the file",
        False,
        "the written list has the spelling of the file",
    ),
    "bad_name": FaultKind("a file name that no list can hold", True, "rename it"),
    # Faults of a list.
    "bad_line": FaultKind("invalid line", True, "fix the line"),
    "bad_label": FaultKind("invalid label", True, "fix the label"),
    "repeated": FaultKind("listed twice", True, "delete the line"),
    # Faults of the complete set.
    "no_class": FaultKind("not in a class folder", True, "move it into the folder of its class"),
    "duplicate": FaultKind("duplicate file", True, "delete one of them"),
    "conflict": FaultKind(
        "the same file in two classes", True, "keep it in the correct class only"
    ),
    "leak": FaultKind(
        "the same source in two splits",
        True,
        "move all clips of the source to one split, or draw new splits with --resplit",
    ),
    "no_training": FaultKind(
        "a class without training clips",
        True,
        "add training clips, or remove the class from the other splits",
    ),
    "empty_class": FaultKind("a class without clips", False, "add clips, or remove the class"),
    "few": FaultKind(
        "too few sources to split", False, "add clips of this class from another recording"
    ),
    "class_name": FaultKind("a class name that no list can hold", True, "rename the class"),
    "alike": FaultKind(
        "class names that differ only in spelling",
        False,
        "rename one of them, or merge the classes",
    ),
}
