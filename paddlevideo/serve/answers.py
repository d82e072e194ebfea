"""The fields of a request and of a response, with PaddleX's names."""

import base64
import math
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from paddlevideo.predict.results import Result
from paddlevideo.serve.batches import Scored
from paddlevideo.serve.decoder import Decoded
from paddlevideo.serve.errors import RequestError

MAX_TOPK = 1 << 20
# The name of the request that is answered, in its response and in the log.
log_id: ContextVar[str] = ContextVar("log_id")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


def success(result: dict[str, Any]) -> dict[str, Any]:
    """The body of a response with a result."""
    return {"logId": log_id.get(), "errorCode": 0, "errorMsg": "Success", "result": result}


def failure(status: int, reason: str) -> dict[str, Any]:
    """The body of a response without one."""
    return {"logId": log_id.get(), "errorCode": status, "errorMsg": reason}


@dataclass(frozen=True)
class Fields:
    """The options of a request for classes.

    Args:
        model: name of a model.
        topk: number of classes; None for the model's own.
        details: also answer with speed, model, backend and duration.
        frames: also answer with the frames that the model looked at.
    """

    model: str
    topk: int | None
    details: bool
    frames: bool

    @classmethod
    def of(cls, fields: Mapping[str, str], models: Mapping[str, Any]) -> "Fields":
        """The options of the fields of a request.

        Raises:
            RequestError: a value is not what its field takes.
        """
        return cls(
            model_name(fields, models),
            integer(fields, "topk", 1, MAX_TOPK),
            switch(fields, "details"),
            switch(fields, "frames"),
        )


def model_name(fields: Mapping[str, str], models: Mapping[str, Any]) -> str:
    """The model of a request; the first one where it names none."""
    name = fields.get("model") or next(iter(models))
    if name not in models:
        known = ", ".join(models)
        raise RequestError(404, f"model: there is no {name[:100]!r}; this service has {known}")
    return name


def integer(fields: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    """The integer of a field, None where there is none."""
    text = fields.get(name, "").strip()
    if not text:
        return None
    valid = text.isascii() and text.isdecimal() and len(text) < 10
    if not valid or not low <= int(text) <= high:
        raise RequestError(422, f"{name}: {text[:50]!r}; expected an integer from {low}")
    return int(text)


def number(fields: Mapping[str, str], name: str, low: float, high: float, default: float) -> float:
    """The number of a field."""
    text = fields.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise RequestError(422, f"{name}: {text[:50]!r}; expected a number from {low} to {high}")
    return value


def switch(fields: Mapping[str, str], name: str) -> bool:
    """Whether a field is 1, true, yes or on."""
    text = fields.get(name, "").strip().lower()
    if text not in (*TRUE, *FALSE):
        raise RequestError(422, f"{name}: {text[:50]!r}; expected 0 or 1")
    return text in TRUE


def categories(result: Result) -> list[dict[str, Any]]:
    """The classes of a result as PaddleX's service names them."""
    rows = zip(result.class_ids, result.label_names, result.scores, strict=True)
    return [{"id": number, "name": name, "score": score} for number, name, score in rows]


def details(model: str, backend: str, decoded: Decoded, scored: Scored) -> dict[str, Any]:
    """What a response adds for `details`; times are milliseconds, duration is seconds."""
    seconds = {
        "decode": decoded.decode,
        "preprocess": decoded.preprocess,
        "inference": scored.inference,
        "postprocess": scored.postprocess,
    }
    more = {"note": scored.result.note} if scored.result.note else {}
    return {
        "speed": {name: round(value * 1000, 3) for name, value in seconds.items()},
        "model": model,
        "backend": backend,
        "duration": decoded.duration,
        **more,
    }


def frames(decoded: Decoded) -> list[dict[str, Any]]:
    """The frames that the model looked at, as base64 of JPEG."""
    return [
        {"time": round(time, 3), "jpeg": base64.b64encode(jpeg).decode("ascii")}
        for time, jpeg in decoded.frames
    ]
