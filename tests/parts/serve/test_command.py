"""The flags of the service: models, limits, token, port."""

import pytest

from paddlevideo.commands.serve import main, make_parser
from paddlevideo.serve import run as run_module
from paddlevideo.serve.command import read_token, settings_of
from paddlevideo.serve.models import named_folders
from paddlevideo.serve.run import open_socket, require_packages
from paddlevideo.serve.settings import Settings

TOKEN = "a-token-of-twenty-characters"


def settings(*flags):
    return settings_of(make_parser().parse_args(["--model", "x", *flags]))


def test_flags_become_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("PADDLEVIDEO_TOKEN", f" {TOKEN}\n")
    given = settings(
        *("--max_mb", "1.5", "--max_seconds", "9", "--max_megapixels", "2", "--timeout", "3"),
        *("--queue", "4", "--timelines", "1", "--decode_workers", "2", "--batch_wait", "5"),
        *("--allow-host", "a.example", "--allow-host", "10.0.0.1:80"),
        *("--allow-origin", "https://b.example", "--temp_dir", str(tmp_path), "--worker_mb", "99"),
    )
    limits = given.limits
    assert (limits.bytes, limits.seconds, limits.pixels) == (3 << 19, 9, 2_000_000)
    assert (limits.timeout, limits.memory) == (3, 99)
    assert (given.queue, given.timelines, given.workers, given.batch_wait) == (4, 1, 2, 0.005)
    assert given.allow_hosts == ("a.example", "10.0.0.1:80")
    assert given.allow_origins == ("https://b.example",)
    assert given.token == TOKEN and given.folder == tmp_path


def test_defaults_are_closed(monkeypatch):
    monkeypatch.delenv("PADDLEVIDEO_TOKEN", raising=False)
    args = make_parser().parse_args(["--model", "x"])
    assert (args.host, args.port) == ("127.0.0.1", 8000)
    given = settings_of(args)
    assert given.allow_hosts == given.allow_origins == () and given.token is None


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Example.org/", "https://example.org"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("chrome-extension://abc", "chrome-extension://abc"),
        ("*", "*"),
        ("null", "null"),
    ],
)
def test_origins_are_as_browsers_send_them(text, origin):
    assert settings("--allow-origin", text).allow_origins == (origin,)


def test_a_service_of_this_machine_alone_is_one_of_the_loopback():
    assert settings().loopback and settings("--host", "localhost").loopback
    assert not settings("--host", "0.0.0.0").loopback
    assert settings("--max_seconds", "inf").limits.seconds == float("inf")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--max_mb", "0"], "--max_mb is 0"),
        (["--max_seconds", "-1"], "--max_seconds is -1"),
        (["--timeout", "nan"], "--timeout is nan"),
        (["--queue", "0"], "--queue is 0; it must be at least 1"),
        (["--timelines", "0"], "timelines is 0"),
        (["--decode_workers", "0"], "--decode_workers is 0"),
        (["--batch_wait", "-1"], "--batch_wait is -1"),
        (["--allow-host", "http://a"], "expected HOST or HOST:PORT"),
        (["--timeout", "inf"], "--timeout is inf; it must be at most 1,000,000"),
        (["--max_mb", "inf"], "--max_mb is inf; it must be at most"),
        (["--max_megapixels", "inf"], "--max_megapixels is inf; it must be at most"),
        (["--batch_wait", "nan"], "--batch_wait is nan; it must be at most"),
        (["--allow-origin", "example.org"], "'example.org' is no origin; expected SCHEME://HOST"),
        (["--allow-origin", "https://example.org/page"], "as https://example.org"),
        (["--allow-origin", "https://"], "is no origin"),
        (["--allow-origin", ""], "is no origin"),
    ],
)
def test_wrong_values(flags, reason):
    with pytest.raises(ValueError, match=reason):
        settings(*flags)


def test_tokens(monkeypatch, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    monkeypatch.delenv("PADDLEVIDEO_TOKEN", raising=False)
    assert read_token(None) is None and read_token(file) == TOKEN
    monkeypatch.setenv("PADDLEVIDEO_TOKEN", TOKEN)
    with pytest.raises(ValueError, match="both given"):
        read_token(file)
    monkeypatch.setenv("PADDLEVIDEO_TOKEN", " ")
    with pytest.raises(ValueError, match="PADDLEVIDEO_TOKEN is empty"):
        read_token(None)
    monkeypatch.delenv("PADDLEVIDEO_TOKEN")
    file.write_text("")
    with pytest.raises(ValueError, match="the file of the token is empty"):
        read_token(file)
    with pytest.raises(OSError):
        read_token(tmp_path / "none")
    with pytest.raises(ValueError, match="has 5 characters; use at least 16"):
        Settings(token="short")


def test_a_token_that_others_can_read(tmp_path, caplog, monkeypatch):
    monkeypatch.delenv("PADDLEVIDEO_TOKEN", raising=False)
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    assert read_token(file) == TOKEN and "other users can read the token" in caplog.text


def test_names_of_models(tmp_path):
    folder = tmp_path / "ppTSN"
    (folder / "inference").mkdir(parents=True)
    strange = tmp_path / "a=b"
    strange.mkdir()
    assert named_folders([str(folder)]) == {"ppTSN": str(folder)}
    assert named_folders([str(folder / "inference")]) == {"ppTSN": str(folder / "inference")}
    assert named_folders([f"x={folder}", f"y={folder}"]) == {"x": str(folder), "y": str(folder)}
    assert named_folders([str(strange)]) == {"a=b": str(strange)}
    with pytest.raises(ValueError, match="two models have the name 'ppTSN'.*NAME=FOLDER"):
        named_folders([str(folder), str(folder / "inference")])
    for text in ("=x", "x=", "", "a/b=c"):
        with pytest.raises(ValueError, match="expected FOLDER or NAME=FOLDER"):
            named_folders([text]) if text else named_folders(["="])


def test_mistakes_are_one_line(capsys, tmp_path, monkeypatch):
    pytest.importorskip("fastapi")
    monkeypatch.delenv("PADDLEVIDEO_TOKEN", raising=False)
    assert main(["--model", str(tmp_path / "none"), "--port", "0"]) == 1
    error = capsys.readouterr().err
    assert "there is no such file or folder" in error and "Traceback" not in error
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["--model", "x", "--port", str(port)]) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
    for wrong in ("-1", "65536"):
        assert main(["--model", "x", "--port", wrong]) == 1
        assert "a port is a number from 0 to 65535" in capsys.readouterr().err
    assert main(["--model", "x", "--host", "no.such.host.invalid"]) == 1
    assert "--host" in capsys.readouterr().err
    assert main([]) == 2


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(run_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'paddlevideo\[serve\]'"):
        require_packages()
