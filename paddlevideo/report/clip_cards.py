"""The hardest clips of a report: a card for each, with its frames or audio."""

from collections.abc import Iterator, Sequence
from typing import Any

from paddlevideo.html_page import escape
from paddlevideo.log import error_text
from paddlevideo.report.run_facts import RunFacts
from paddlevideo.report.thumbnails import (
    audio_excerpt,
    data_url,
    feature_image,
    player_url,
    spectrogram,
    thumbnail,
)
from paddlevideo.sample import DecodeError
from paddlevideo.urls import is_url, shown

AUDIO_SHARE = 0.6  # of the bytes for the cards; players beyond it are left out


def hardest_clips(facts: RunFacts, number: int, max_bytes: int) -> Iterator[str]:
    """The clips with the largest loss, as many as fit into `max_bytes`.

    Those that are classified correctly are folded.
    """
    rows = facts.best["worst"][:number] if facts.best else []
    if not rows:
        return
    names, uses_audio = facts.class_names(), has_audio_input(facts)
    wrong, right, reasons = [], [], []
    num_bytes = audio_bytes = 0
    for row in rows:
        images, player, reason = media(row, facts.find_file(row["path"]), uses_audio)
        if audio_bytes + len(player) > AUDIO_SHARE * max_bytes:
            player = ""
        audio_bytes += len(player)
        reasons += [reason] if reason else []
        card = f'<div class="clip">{images}{player}{clip_text(row, names)}</div>'
        num_bytes += len(card.encode())
        if num_bytes > max_bytes:
            break
        (right if is_correct(row) else wrong).append(card)
    about = f"The {len(wrong) + len(right)} clips with the largest loss in that validation, worst "
    about += f"first; {len(wrong)} of them {'is' if len(wrong) == 1 else 'are'} classified wrongly."
    yield f'<h2>Hardest clips</h2><p class="soft">{about}</p>'
    if len(reasons) == len(rows):
        yield f'<p class="soft">Without frames: {escape(reasons[0])}.</p>'
    if wrong:
        yield f'<div class="clips">{"".join(wrong)}</div>'
    if right:
        summary = f"<summary>{len(right)} that are classified correctly</summary>"
        yield f'<details>{summary}<div class="clips">{"".join(right)}</div></details>'


def is_correct(row: dict[str, Any]) -> bool:
    return row["classes"][0] in row["labels"]


def has_audio_input(facts: RunFacts) -> bool:
    """Whether the model of a run uses the audio of its clips, as its pipeline says."""
    pipelines = facts.config.get("PIPELINE") or {}
    valid = pipelines.get("valid") or {}
    return "audio" in valid or (valid.get("decode") or {}).get("name") == "LoadAudioFeature"


def media(row: dict[str, Any], path: str, uses_audio: bool) -> tuple[str, str, str]:
    """Frames, spectrogram and player of a clip.

    A clip without frames, such as an audio file, has a spectrogram, and so has a clip of a model
    that uses audio.

    Args:
        path: where its file is.

    Returns:
        (<img> elements, <audio> element with a caption, why there is no image); "" for each that
        does not apply.
    """
    images, player, reason = "", "", ""
    if is_url(path):  # a server that does not answer would hold up the end of a training
        return images, player, "the files are at URLs, which a report does not read"
    try:
        images = f'<img alt="three frames" src="{data_url(thumbnail(row, path))}">'
    except (DecodeError, OSError) as error:
        reason = error_text(error)
    if (images and not uses_audio) or row.get("offset") is not None:
        return images, player, reason
    try:
        if path.lower().endswith(".npy"):
            return f'<img alt="features" src="{data_url(feature_image(path))}">', "", ""
        wave, start = audio_excerpt(row, path)
        images += f'<img alt="spectrogram" src="{data_url(spectrogram(wave))}">'
        url, seconds = player_url(wave)
        player = f'<audio controls src="{url}"></audio>'
        player += f'<p class="soft">audio of {start:g} to {start + seconds:.1f} s</p>'
    except (DecodeError, OSError) as error:
        reason = reason or error_text(error)
    return images, player, "" if images else reason


def clip_text(row: dict, names: Sequence[str]) -> str:
    """The text under a clip: labels, predictions, file, loss."""
    true = scored_names(row["labels"], row["label_scores"], names)
    first, *others = scored_names(row["classes"], row["scores"], names)
    others = others[: 4 if len(row["labels"]) > 1 else 2]
    css_class = "good" if is_correct(row) else "bad"
    loss = "not finite" if row["loss"] is None else f"{row['loss']:.2f}"
    following = f"next: {', '.join(others)}" if others else ""
    return (
        f"<p>true: <b>{', '.join(true) or 'none'}</b></p>"
        f'<p class="{css_class}">predicted: <b>{first}</b></p>'
        f'<p class="soft">{following}</p>'
        f'<p class="path">{escape(clip_name(row))}, loss {loss}</p>'
    )


def scored_names(
    class_ids: Sequence[int], scores: Sequence[float | None], names: Sequence[str]
) -> list[str]:
    """Class names with their scores in percent, as HTML; ? for a score that is not finite."""
    texts = ["?" if score is None else f"{100 * score:.0f} %" for score in scores]
    return [f"{escape(names[k])} {text}" for k, text in zip(class_ids, texts, strict=True)]


def clip_name(row: dict) -> str:
    """The path of a clip, with its id inside a shard and its start and end in a video."""
    path = shown(row["path"])
    name = f"{row['id']} in {path}" if "offset" in row else path
    if "start_sec" in row or "end_sec" in row:
        start, end = row.get("start_sec", 0), row.get("end_sec", float("inf"))
        name += f", {start:g} to {end:g} s"
    return name
