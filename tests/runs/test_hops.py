"""From the command to the loss: four calls, no hooks in between."""

import traceback

import main
from paddlevideo.models.recognizer import Recognizer2D

HOPS = ["work", "train", "train_epoch", "train_step", "losses"]


def test_four_hops_from_the_command_to_the_loss(small, monkeypatch, root):
    cfg = small("epochs=1", "max_iters=1")
    real, calls = Recognizer2D.losses, []

    def losses(*args):
        frames = traceback.extract_stack()
        package = str(root / "paddlevideo")
        calls.append([frame.name for frame in frames if frame.filename.startswith(package)])
        return real(*args)

    monkeypatch.setattr(Recognizer2D, "losses", losses)
    overrides = ["-o", "epochs=1", "-o", "max_iters=1"]
    monkeypatch.setattr("sys.argv", ["main.py", "-c", cfg.origin.path, *overrides])
    assert main.main() == 0
    path = calls[0][calls[0].index("work") :]
    assert [*path, "losses"] == HOPS
