"""The architecture that a weight file records: TSM's tensors have the names and shapes of TSN's."""

from pathlib import Path

from paddlevideo.config.shipped import typed
from paddlevideo.models.base import Recognizer
from paddlevideo.weights import WeightsError

ARCHITECTURE = "architecture@@"  # its name in a weight file: the backbone's name as JSON bytes
OTHER_WORD = {"TSM": "TSN", "TSN": "TSM"}


def architecture_note(
    model: Recognizer, path: str | Path, recorded: str | None, training: bool
) -> str | None:
    """What to log about a file whose weights may be those of another architecture; else None.

    Args:
        recorded: what the file records; None for files of other programs.
        training: a training starts from the weights, which may be those of another architecture.

    Raises:
        WeightsError: the file records another architecture, and its weights are used as they are.
    """
    own = model.architecture
    if not own or recorded == own:
        return None
    if recorded:
        text = f"{path}: weights of {recorded}, but MODEL.backbone is {own}"
        if training:
            return f"{text}; the training starts from them all the same"
        raise WeightsError(
            f"{text}; leave out -c where its run.yaml is next to it, give the config of its run, "
            f"or start a training from it with {typed('main.py', 'train')} -w"
        )
    word = model.backbone.file_word
    if not word:
        return None
    other = OTHER_WORD[word]
    text = (
        f"{path} does not record its architecture; it is taken for {own}, as the config says, "
        f"although {other} has the same tensors"
    )
    names_other = other.lower() in Path(path).stem.lower()
    return f"{text}. Its name says {other}: check MODEL.backbone" if names_other else text
