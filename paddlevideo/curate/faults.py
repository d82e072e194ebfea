"""What can be wrong with a data set, each kind under one name, and how a single finding is written down."""

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of fault.

    Args:
        title: a few words for a heading.
        left_out: clips with it do not go into the clean lists.
        advice: what to do.
    """

    title: str
    left_out: bool
    advice: str


class Fault(NamedTuple):
    """One finding.

    Args:
        kind: a key of KINDS.
        path: the file as its list or folder calls it; a class, or "" where the whole set is meant.
        text: what was found there.
        place: file:line of the list that names it, "" for what a folder holds.
    """

    kind: str
    path: str
    text: str
    place: str = ""

    def __str__(self):
        return f"{self.place + ': ' if self.place else ''}{self.path + ': ' if self.path else ''}{self.text}"


KINDS = {
    # of a file
    "missing": Kind("no such file", True, "mend the list, or fetch the file again"),
    "folder": Kind("a folder, not a file", True, "name the video itself"),
    "empty": Kind("empty file", True, "fetch it again"),
    "truncated": Kind("cut short", True, "fetch or record it again"),
    "damaged": Kind(
        "damaged", True, "fetch it again; `ffmpeg -i OLD -c copy NEW` mends some containers"
    ),
    "not_video": Kind("not a video", True, "delete it, or fetch it again"),
    "no_video": Kind(
        "no pictures in it",
        True,
        "sound alone is nothing to look at; delete it, or fetch the video",
    ),
    "no_frames": Kind("no frames", True, "record it again"),
    "too_short": Kind(
        "too short", True, "delete it, or allow it with --min_frames and --min_seconds"
    ),
    "size_changes": Kind(
        "the picture changes its size", True, "encode it anew: `ffmpeg -i OLD -vf scale=W:H NEW`"
    ),
    "bad_times": Kind("times outside the video", True, "mend start_sec and end_sec"),
    "crash": Kind("ends the decoder", True, "delete it; and a report to FFmpeg is worth the while"),
    # of its name
    "wrong_suffix": Kind(
        "the name's ending does not fit", False, "rename it; other programs go by the name"
    ),
    "unknown_suffix": Kind(
        "a video that is not called one", True, "give it the ending of its format"
    ),
    "respelt": Kind(
        "written in another way than the file", False, "the clean list has the file's own spelling"
    ),
    "bad_name": Kind("a name that no list can hold", True, "rename it"),
    # of a list
    "bad_line": Kind("a line that is no record", True, "mend the line"),
    "bad_label": Kind("a label that fits no class", True, "mend the label"),
    "repeated": Kind("listed twice", True, "delete the line"),
    # of the set
    "no_class": Kind("in no class folder", True, "move it into the folder of its class"),
    "duplicate": Kind("the same video twice", True, "delete one of them"),
    "conflict": Kind("the same video in two classes", True, "keep it in the right class only"),
    "leak": Kind(
        "the same source in two splits", True, "move it, or draw new splits with --resplit"
    ),
    "no_training": Kind(
        "a class without training clips",
        True,
        "add training clips, or take the class out of the other splits",
    ),
    "empty_class": Kind("a class without clips", False, "add clips, or remove the class"),
    "few": Kind(
        "too few sources to split", False, "add videos of this class from another recording"
    ),
    "class_name": Kind("a class name that no list can hold", True, "rename the class"),
    "alike": Kind(
        "class names that look alike", False, "give one of them another name, or join the classes"
    ),
}
