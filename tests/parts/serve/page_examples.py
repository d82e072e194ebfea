"""Results and models of a service for tests of the page."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.clips import write_clip
from tests.parts.serve.stand_in import Answer

NAMES = ["bouncing", "rolling", "falling", "swinging", "waving"]
SCORES = [0.8123, 0.0931, 0.0511, 0.03, 0.0135]
FPS = 25
MODEL = {"name": "balls", "task": "video", "classes": 5, "labels": NAMES, "backend": "openvino"}
MODEL |= {"modalities": ["frames"], "multi_label": False}
LISTENER = {**MODEL, "name": "noises", "modalities": ["audio"], "backend": "paddle"}
TAGGER = {**MODEL, "name": "tags", "modalities": ["frames", "audio"], "multi_label": True}


def ball(num_frames: int = 100, height: int = 240, width: int = 320) -> np.ndarray:
    """A ball that bounces from the left to the right: uint8 [num_frames, height, width, 3] RGB."""
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    frames[:, : height * 7 // 10] = (58, 84, 120)
    frames[:, height * 7 // 10 :] = (70, 110, 70)
    for number, frame in enumerate(frames):
        x = width // 8 + width * 3 * number // (4 * num_frames)
        y = height * 5 // 8 - int(height * 3 / 8 * abs(np.sin(number / 9)))
        cv2.circle(frame, (x, y), height // 11, (230, 150, 60), -1)
    return frames


def ball_clip(path: Path, num_frames: int = 100, **options: Any) -> Path:
    """Write `ball` as a video of 4 s; see `write_clip` for the options."""
    frames = ball(num_frames)
    return write_clip(path, frames=frames, height=240, width=320, fps=FPS, **options)


def result(names: list[str] = NAMES, every: int = 15) -> dict[str, Any]:
    """The `result` of a good answer for `ball_clip`, with a frame of every `every` frames."""
    frames = ball()
    shown = range(every // 2, len(frames), every)
    return {
        "categories": [
            {"id": number, "name": name, "score": score}
            for number, (name, score) in enumerate(zip(names, SCORES, strict=True))
        ],
        "speed": {"decode": 34.2, "preprocess": 12.1, "inference": 88.0, "postprocess": 0.4},
        "model": "balls",
        "backend": "openvino",
        "duration": len(frames) / FPS,
        "frames": [{"time": number / FPS, "jpeg": jpeg(frames[number])} for number in shown],
    }


def jpeg(image: np.ndarray) -> str:
    """An RGB image as a base64 JPEG."""
    return base64.b64encode(cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()).decode()


def segment(start: float, end: float, name: str = "", score: float = 0.9, **more: Any) -> dict:
    """A row of the timeline: one class, or no class where `name` is empty."""
    number = NAMES.index(name) if name in NAMES else 7
    known = {"class_ids": [number], "scores": [score], "label_names": [name]} if name else {}
    empty = {"class_ids": [], "scores": [], "label_names": []}
    return {"start": start, "end": end, **empty, **known, **more}


ROWS = [
    segment(0.0, 1.4, "bouncing", 0.91),
    segment(1.0, 2.0, "rolling", 0.55),
    segment(2.0, 2.6, error="corrupt stretch"),
    segment(2.6, 4.0, "falling", 0.77),
]
END = {"done": True, "duration": 4.0, "segments": len(ROWS)}
DAMAGED = "clip is damaged: no frame can be decoded"


def service_parts(**changes: Any) -> dict[str, Any]:
    """Arguments of `stand_in`: two models, good answers, and a file named broken.mp4."""
    broken = Answer(422, {"errorCode": 422, "errorMsg": DAMAGED})
    parts: dict[str, Any] = {
        "models": [MODEL, LISTENER],
        "results": {"": result(), "broken.mp4": broken},
        "timelines": {"": Answer(rows=[*ROWS, END])},
    }
    return parts | changes
