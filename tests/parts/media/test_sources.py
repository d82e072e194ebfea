"""Remote videos: the frames and audio of the local file, and only a part of it transferred."""

import logging

import av
import numpy as np
import pytest

from paddlevideo.data.pipeline import Stage, StageError
from paddlevideo.media import sources
from paddlevideo.media.audio_reader import NoAudioError
from paddlevideo.media.clock import read_stretches
from paddlevideo.media.decode import FrameDecoder, VideoDecoder
from paddlevideo.media.packets import read_packets
from paddlevideo.media.waveform import read_waveform
from paddlevideo.remote import AccessError, UrlFile, access
from paddlevideo.remote.block_cache import BLOCK
from paddlevideo.sample import DecodeError, Record
from tests.clips import CASES, random_frames, write_clip

pytest.importorskip("fsspec")
READS = [[0], [-1], [3, 3, 1]]


@pytest.fixture
def fetched(monkeypatch):
    """The bytes that were transferred of each file that was opened."""
    files = []

    class Counted(sources._MediaFile):
        def __init__(self, url):
            super().__init__(url)
            files.append(self)

    monkeypatch.setattr(sources, "_MediaFile", Counted)
    return lambda: sum(file.num_fetched for file in files)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """A minute of video with audio, about 6 MB; in the second file with its index first."""
    folder = tmp_path_factory.mktemp("long")
    write_interleaved(folder / "end.mp4")
    with (
        av.open(str(folder / "end.mp4")) as source,
        av.open(str(folder / "start.mp4"), "w", options={"movflags": "faststart"}) as target,
    ):
        copies = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    assert (folder / "end.mp4").stat().st_size > 4_000_000
    return folder


def write_interleaved(path) -> None:
    """Write 60 s of noise, 5 frames per second, with a tone: a second of each in turn."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        quick = {"g": "10", "qp": "4", "preset": "ultrafast", "threads": "1"}
        video = container.add_stream("libx264", rate=5, options=quick)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono")
        for second in range(60):
            for image in rng.integers(0, 256, (5, 96, 128, 3), np.uint8):
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            tone = np.sin(np.arange(16000) * (second + 5) / 99).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, 16000 * second
            container.mux(audio.encode(frame))
        container.mux([*video.encode(), *audio.encode()])


def frames_of(path, reads=READS, start=None, end=None):
    with VideoDecoder().open(Record(str(path), start_sec=start, end_sec=end)) as clip:
        numbers = [[n % clip.num_frames for n in each] for each in reads]
        return clip.num_frames, clip.fps, clip.times(), [clip.read(each) for each in numbers]


def assert_same(found, expected):
    assert found[:2] == expected[:2] and np.array_equal(found[2], expected[2])
    assert all(map(np.array_equal, found[3], expected[3]))


@pytest.mark.parametrize("name", CASES)
def test_frames_are_those_of_the_local_file(tmp_path, memory, name):
    if CASES[name].get("codec", "libx264") not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {CASES[name]['codec']}")
    path = write_clip(tmp_path / name, **CASES[name])
    url = memory.put(name, path.read_bytes())
    assert_same(frames_of(url), frames_of(path))
    assert read_stretches(url) == read_stretches(str(path))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "mjpeg", "libvpx-vp9"])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_packets_without_their_data_are_those_with_it(tmp_path, memory, codec, suffix):
    if codec not in av.codecs_available or (codec, suffix) == ("libvpx-vp9", "mov"):
        pytest.skip(f"this PyAV cannot write {codec} into {suffix}")
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {} if codec == "mjpeg" else {"g": "7"}
    path = tmp_path / f"a.{suffix}"
    write_clip(path, codec=codec, pixel_format=pixels, options=options, tone=440.0)
    url = memory.put(path.name, path.read_bytes())
    with sources.open_container(url) as container:
        found = sources.list_packets(url, container, container.streams.video[0])
    with sources.open_container(str(path)) as container:
        expected = read_packets(container, container.streams.video[0])
    assert found == expected and sum(packet.is_key for packet in found) > 1


def test_where_the_data_of_packets_is(tmp_path, memory):
    def parts(name, **options):
        path = write_clip(tmp_path / name, container_options=options)
        return path, sources.media_data(UrlFile(memory.put(name, path.read_bytes())))

    for name, options in (("a.mp4", {}), ("b.mp4", {"movflags": "faststart"})):
        path, [(start, end)] = parts(name, **options)
        content = path.read_bytes()
        assert content[start - 4 : start] == b"mdat" and b"moov" not in content[start:end]
        assert int.from_bytes(content[start - 8 : start - 4], "big") == end - start + 8
    assert parts("c.mp4", movflags="frag_keyframe+empty_moov")[1] == []
    for content in (b"", b"abc", bytes(100), b"\0\0\0\5ftyp" + bytes(9)):
        assert sources.media_data(UrlFile(memory.put("d.mp4", content))) == []


@pytest.mark.parametrize("name", ["end.mp4", "start.mp4"])
def test_a_short_clip_takes_a_part_of_the_transfer(long_clip, server, fetched, name):
    path = long_clip / name
    content = server.files[f"/{name}"] = path.read_bytes()
    url = f"{server.url}/{name}"
    found = frames_of(url, [range(15)], 30.0, 33.0)
    assert found[0] == 15
    assert 0 < fetched() < len(content) / 2
    assert_same(found, frames_of(path, [range(15)], 30.0, 33.0))


def test_a_part_of_the_audio_takes_a_part_of_the_transfer(long_clip, server, fetched):
    content = server.files["/a.mp4"] = (long_clip / "end.mp4").read_bytes()
    wave = read_waveform(f"{server.url}/a.mp4", 16000, 30.0, 33.0)
    assert 0 < fetched() < len(content) / 2
    assert np.array_equal(wave, read_waveform(str(long_clip / "end.mp4"), 16000, 30.0, 33.0))


def test_a_file_is_transferred_at_most_once(long_clip, server, fetched):
    content = server.files["/a.mp4"] = (long_clip / "end.mp4").read_bytes()
    for _ in range(3):
        frames_of(f"{server.url}/a.mp4", [range(300)])
        read_waveform(f"{server.url}/a.mp4")
    assert fetched() <= len(content)


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac"])
@pytest.mark.parametrize("backend", ["pyav", "soundfile"])
def test_audio_files(tmp_path, memory, suffix, backend):
    if backend == "soundfile":
        pytest.importorskip("soundfile")
        pytest.importorskip("soxr")
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        codec = {"wav": "pcm_s16le", "mp3": "libmp3lame", "flac": "flac"}[suffix]
        stream = container.add_stream(codec, rate=16000, layout="mono")
        sine = np.sin(np.arange(48000) / 7).astype(np.float32)
        samples = (sine * 9000).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    url = memory.put(path.name, path.read_bytes())
    for span in ((None, None), (1.0, 2.0)):
        expected = read_waveform(str(path), 8000, *span, backend=backend)
        assert np.array_equal(read_waveform(url, 8000, *span, backend=backend), expected)


# --- failures -------------------------------------------------------------------------------------


def failure(url, **fields) -> str:
    with pytest.raises(DecodeError) as caught, VideoDecoder().open(Record(url, **fields)) as clip:
        clip.read(np.arange(clip.num_frames))
    return str(caught.value)


def test_files_that_are_no_videos(tmp_path, memory):
    clip = write_clip(tmp_path / "a.mp4").read_bytes()
    assert failure(f"{memory.url}/none.mp4") == "no such file"
    assert failure(memory.put("a.mp4", b"")) == "the file is empty (0 bytes)"
    assert failure(memory.put("b.mp4", clip[:1500])).startswith("an mp4 without its index")
    assert failure(memory.put("c.mp4", b"text\n" * 99)) in (
        "a text file, not a video",
        "no known video format, or damaged",
    )
    assert failure(memory.put("d/e.mp4", clip).rpartition("/")[0]) == "a folder, not a file"
    with pytest.raises(NoAudioError, match="no audio stream in it"):
        read_waveform(memory.put("f.mp4", clip))


def test_a_cut_file_fails_as_the_local_one(tmp_path, memory):
    path = write_clip(tmp_path / "a.mp4", container_options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    assert failure(memory.put("a.mp4", path.read_bytes())) == failure(str(path))


def test_a_playlist_reaches_no_other_file(tmp_path, memory):
    clip = write_clip(tmp_path / "a.ts")
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n"
    failure(memory.put("a.m3u8", text))
    failure(memory.put("b.m3u8", text.replace(str(clip), f"file:{clip}")))


@pytest.mark.parametrize("answer", [("cut", 100), 500])
def test_a_connection_that_breaks_in_a_video(long_clip, server, answer):
    server.files["/a.mp4"] = (long_clip / "end.mp4").read_bytes()
    record = Record(f"{server.url}/a.mp4")
    with VideoDecoder().open(record) as clip:
        server.plan = [answer] * 2
        clip.read([150])  # the third attempt is answered
        assert not server.plan
    text = "the connection broke" if isinstance(answer, tuple) else "the server answered 500"
    with pytest.raises(DecodeError, match=text), VideoDecoder().open(record) as clip:
        server.plan = [answer] * 30
        clip.read([250])


def test_a_failed_read_does_not_become_another_frame(long_clip, server, monkeypatch):
    """Each read of a remote file may fail: the result is an error, or the frames of the file."""
    content = server.files["/a.mp4"] = (long_clip / "end.mp4").read_bytes()
    monkeypatch.setattr(access, "WAITS", ())
    expected = frames_of(long_clip / "end.mp4", [[20, 180]])
    results = set()
    for number in range(len(content) // BLOCK // 2):
        server.plan = [""] * number + [500]
        server.etag = f'"{number}"'  # nothing is in memory
        access.forget(f"{server.url}/a.mp4")
        try:
            found = frames_of(f"{server.url}/a.mp4", [[20, 180]])
        except DecodeError as error:
            assert "answered 500" in str(error)
            results.add("error")
        else:
            assert_same(found, expected)
            results.add("frames")
    assert "error" in results


def test_what_concerns_all_files_is_no_failure_of_one():
    for url in ("zz://b/a.mp4", "bos://b/a.mp4"):
        with pytest.raises(AccessError, match="fsspec has no package for"), Stage("decode"):
            frames_of(url)
    with pytest.raises(StageError, match="decode: no such file"), Stage("decode"):
        frames_of("none.mp4")


@pytest.mark.parametrize("backend", ["cv2", "decord"])
def test_other_backends_read_local_files(tmp_path, memory, backend, monkeypatch):
    monkeypatch.setattr("paddlevideo.media.decode.has_decord", lambda: True)
    url = memory.put("a.mp4", write_clip(tmp_path / "a.mp4").read_bytes())
    text = f"backend {backend} reads local files only; use backend: pyav"
    opened = VideoDecoder(backend).open(Record(url))
    with pytest.raises(AccessError, match=text), Stage("decode"), opened:
        pass


# --- folders of frames ----------------------------------------------------------------------------


def test_folders_of_frames(tmp_path, memory):
    import cv2

    for number, frame in enumerate(random_frames(5), 1):
        cv2.imwrite(str(tmp_path / f"img_{number:05}.jpg"), frame)
        memory.put(f"v/img_{number:05}.jpg", (tmp_path / f"img_{number:05}.jpg").read_bytes())
    for count in (5, None, 3):
        frames = []
        for path in (str(tmp_path), f"{memory.url}/v"):
            record = Record(path, num_frames=count, frame_pattern="img_{:05}.jpg")
            with FrameDecoder().open(record) as clip:
                frames.append(clip.read(np.arange(clip.num_frames)))
        assert len(frames[0]) == (count or 5) and np.array_equal(*frames)


@pytest.mark.parametrize(
    ("name", "count", "text"),
    [
        ("none", None, "no such folder"),
        ("none", 3, "no such folder"),
        ("v", 9, "9 frames expected, the folder has 2"),
        ("v/img_00001.jpg", None, "a file, not a folder of frames"),
        ("v", 2, "img_00001.jpg: not an image, or damaged"),
    ],
)
def test_folders_of_frames_that_are_wrong(memory, name, count, text):
    for number in (1, 2):
        memory.put(f"v/img_{number:05}.jpg", b"no image")
    record = Record(f"{memory.url}/{name}", num_frames=count, frame_pattern="img_{:05}.jpg")
    with pytest.raises(DecodeError, match=text), FrameDecoder().open(record) as clip:
        clip.read([0])


def test_the_log_has_no_lines_of_ffmpeg(long_clip, server, capfd):
    server.files["/a.mp4"] = (long_clip / "end.mp4").read_bytes()
    logging.getLogger("libav").handlers.clear()
    frames_of(f"{server.url}/a.mp4")
    assert capfd.readouterr().err == ""
