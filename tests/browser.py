"""A headless Chromium that a test drives through the DevTools protocol over a pipe."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--remote-debugging-pipe",
)
SECONDS = 30  # until the browser or the page has to have answered


def browser_path() -> str | None:
    """The path of a Chromium; None if the machine has none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A tab of the browser.

    Attributes:
        messages: texts of the console, uncaught errors, and what the browser logs about the page,
            such as violations of its policy and requests that failed.
    """

    def __init__(self, read: int, write: int):
        self._read, self._write, self._buffer, self._number = read, write, b"", 0
        self.messages: list[str] = []
        self._session = ""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        attached = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **arguments: Any) -> dict:
        """Run a command of the DevTools protocol and return its result.

        Raises:
            RuntimeError: the browser refused it.
            TimeoutError: no answer within SECONDS.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": arguments}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            answer = self._receive(deadline, method)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _receive(self, deadline: float, method: str) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self._read, 1 << 20) if ready else b""
            if not data:
                raise TimeoutError(f"the browser did not answer {method}")
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict) -> None:
        given = event.get("params", {})
        if event["method"] == "Runtime.consoleAPICalled":
            words = [str(a.get("value", a.get("description", ""))) for a in given["args"]]
            self.messages.append(" ".join(words))
        elif event["method"] == "Runtime.exceptionThrown":
            details = given["exceptionDetails"]
            reason = details.get("exception", {}).get("description", "")
            self.messages.append(f"{details['text']} {reason}")
        elif event["method"] == "Log.entryAdded":
            self.messages.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        """Open an address and wait until its modules have run."""
        self.command("Page.navigate", url=url)
        self.wait("document.readyState == 'complete' && location.href != 'about:blank'")

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise.

        Raises:
            RuntimeError: the expression failed.
        """
        result = self.command(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{code}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until a JavaScript expression is true; returns its value.

        Raises:
            TimeoutError: it is still false after SECONDS.
        """
        return self.wait_for(lambda: self.run(condition), condition)

    def wait_for(self, condition: Callable[[], Any], name: str = "") -> Any:
        """Wait until a function returns something true; returns it.

        Raises:
            TimeoutError: it is still false after SECONDS.
        """
        deadline = time.monotonic() + SECONDS
        while not (value := condition()):
            if time.monotonic() > deadline:
                text = self.run("document.body.innerText")
                raise TimeoutError(f"still false: {name}\n{text}\n{self.messages}")
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        """The visible text of the first element of a selector."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def click(self, selector: str) -> None:
        """Click into the middle of an element with the mouse."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.left + r.width / 2, r.top + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    def press(self, key: str, shift: bool = False) -> None:
        """Press a key such as "Tab", "Enter" or "ArrowRight"."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "End": 35, "Home": 36}
        codes |= {"ArrowLeft": 37, "ArrowRight": 39, "PageUp": 33, "PageDown": 34}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        event["modifiers"] = 8 * shift
        text = {"Enter": "\r", " ": " "}.get(key)
        self.command(
            "Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {})
        )
        self.command("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        """Enter text into the focused field."""
        self.command("Input.insertText", text=text)

    def choose(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in a file field, as its dialog would."""
        root = self.command("DOM.getDocument")["root"]["nodeId"]
        node = self.command("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.command("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def look(self, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window in CSS pixels, and light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, file: Path, whole: bool = True) -> Path:
        """Write the page as PNG: the whole page, or what the window shows."""
        image = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(image["data"]))
        return file


@contextlib.contextmanager
def browser_page(profile: Path, *flags: str) -> Iterator[Page]:
    """Start a browser with a new profile, yield its page, and end the browser.

    Raises:
        FileNotFoundError: the machine has no Chromium.
    """
    path = browser_path()
    if path is None:
        raise FileNotFoundError(f"no browser found ({', '.join(NAMES)})")
    their_read, our_write = os.pipe()
    our_read, their_write = os.pipe()
    # The browser reads commands from descriptor 3 and writes answers to 4. These copies are higher,
    # so that neither of the two overwrites the other.
    read = fcntl.fcntl(their_read, fcntl.F_DUPFD_CLOEXEC, 10)
    write = fcntl.fcntl(their_write, fcntl.F_DUPFD_CLOEXEC, 10)
    actions = [(os.POSIX_SPAWN_DUP2, read, 3), (os.POSIX_SPAWN_DUP2, write, 4)]
    actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    command = [path, *FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"]
    process = os.posix_spawn(path, command, os.environ, file_actions=actions, setpgroup=0)
    for descriptor in (their_read, their_write, read, write):
        os.close(descriptor)
    try:
        yield Page(our_read, our_write)
    finally:
        os.close(our_write)  # the browser ends when its pipe does
        os.close(our_read)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
