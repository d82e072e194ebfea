"""What the routes take and return, for OpenAPI."""

from typing import Any


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _text(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


def _number(kind: str, description: str) -> dict[str, str]:
    return {"type": kind, "description": description}


FILE = {"type": "string", "format": "binary", "description": "a video, or what the model takes"}
MODEL = _text("name of a model of /models; default: the first one")
TOPK = _number("integer", "number of classes; default: the model's own")
SWITCH = {"type": "integer", "enum": [0, 1]}
DETAILS = {**SWITCH, "description": "also return speed (ms), model, backend and duration (s)"}
FRAMES = {**SWITCH, "description": "also return the frames that the model looked at, as JPEG"}
FAILURE = _object(
    logId=_text("name of the request in the log"),
    errorCode=_number("integer", "the HTTP status"),
    errorMsg=_text("the reason"),
)
CATEGORY = _object(id={"type": "integer"}, name={"type": "string"}, score={"type": "number"})
SPEED = _object(
    **{
        stage: _number("number", "ms")
        for stage in ("decode", "preprocess", "inference", "postprocess")
    }
)
RESULT = _object(
    categories={"type": "array", "items": CATEGORY},
    speed=SPEED,
    model={"type": "string"},
    backend={"type": "string"},
    duration=_number("number", "seconds; null where the file states none"),
    note=_text("what is special about the result, such as missing audio; with details"),
    frames={
        "type": "array",
        "items": _object(time=_number("number", "seconds"), jpeg=_text("base64")),
    },
)
REASONS = {
    "400": "the request is malformed",
    "401": "the token is missing or wrong",
    "403": "the host of the URL, or the site whose page sends the request, is not allowed",
    "404": "there is no such model",
    "408": "the upload is too slow",
    "413": "the file is too large",
    "415": "the content type is neither a form nor JSON",
    "422": "the file cannot be decoded, is too long or has too many pixels, or a field is wrong",
    "429": "the service is busy; Retry-After has the seconds",
    "504": "it took too long",
}
FAILURES = {
    status: {"description": reason, "content": {"application/json": {"schema": FAILURE}}}
    for status, reason in REASONS.items()
}
CLASSIFY_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    **_object(
                        video=_text("a file as base64, or a URL of a host that is allowed"),
                        topk=TOPK,
                        model=MODEL,
                        details=DETAILS,
                        frames=FRAMES,
                    ),
                    "required": ["video"],
                }
            },
            "multipart/form-data": {
                "schema": {
                    **_object(file=FILE, topk=TOPK, model=MODEL, details=DETAILS, frames=FRAMES),
                    "required": ["file"],
                }
            },
        },
    },
    "responses": {
        "200": {
            "description": "the best classes, best first",
            "content": {
                "application/json": {
                    "schema": _object(
                        logId={"type": "string"},
                        errorCode={"type": "integer", "enum": [0]},
                        errorMsg={"type": "string", "enum": ["Success"]},
                        result=RESULT,
                    )
                }
            },
        },
        **FAILURES,
    },
}
SEGMENT = _object(
    start=_number("number", "seconds"),
    end=_number("number", "seconds"),
    class_ids={"type": "array", "items": {"type": "integer"}},
    scores={"type": "array", "items": {"type": "number"}},
    label_names={"type": "array", "items": {"type": "string"}},
    error=_text("in place of the classes: why the stretch has none"),
)
TIMELINE_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    **_object(
                        file=FILE,
                        window=_number("number", "seconds that are classified at once; default 2"),
                        stride=_number("number", "seconds from one window to the next; default 1"),
                        min_score=_number("number", "score that begins a segment; default 0.3"),
                        min_duration=_number("number", "of the shortest segment (s); default 0"),
                        topk=_number("integer", "number of classes of a segment; default 1"),
                        model=MODEL,
                    ),
                    "required": ["file"],
                }
            }
        },
    },
    "responses": {
        "200": {
            "description": 'a line per segment, then {"done": true, "duration": seconds, '
            '"segments": number} or {"error": reason}',
            "content": {"application/x-ndjson": {"schema": SEGMENT}},
        },
        **FAILURES,
    },
}
