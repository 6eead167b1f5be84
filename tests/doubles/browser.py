"""A headless Chromium for tests that look at pages as a reader does.

Debian's ``chromium`` is driven over its DevTools protocol. Nothing is downloaded, and no page reaches any
machine but this one. Where the browser is not installed, tests that ask for it skip and say so.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60  # a loaded machine is slow, but nothing waits for ever
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which refuses to start for root, as in most containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)

# What sticks out of the viewport, unless a box around it scrolls or hides it: that box is looked at by itself.
OVERFLOW = """
(width => {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > width) found.push(`the page: ${root.scrollWidth} px in ${width}`);
  const held = element => {
    for (let box = element.parentElement; box && box !== document.body; box = box.parentElement)
      if (getComputedStyle(box).overflowX !== 'visible') return true;
    return false;
  };
  for (const element of document.body.querySelectorAll('*')) {
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height || (box.left >= -1 && box.right <= width + 1) || held(element)) continue;
    const name = element.tagName.toLowerCase() + (element.className && element.className.baseVal === undefined
      ? '.' + String(element.className).trim().replace(/\\s+/g, '.') : '');
    const text = (element.textContent || '').trim().slice(0, 40);
    found.push(`${name} from ${Math.round(box.left)} to ${Math.round(box.right)} px in ${width}: ${text}`);
  }
  return found;
})
"""
SETTLED = "document.fonts.ready.then(() => new Promise(done => setTimeout(done, 50))).then(() => true)"


@dataclass
class Page:
    """What was seen of a page.

    Attributes
    ----------
    png_path : Path
        A picture of the whole page, from top to bottom.
    overflow : list of str
        The page, if it scrolls sideways, and every element that sticks out of the viewport, with where and by how much;
        what lies in a box that scrolls or hides is not meant.
    errors : list of str
        Uncaught exceptions, ``console.error``, refused and failed loads.
    text : str
        The text that is visible.
    title : str
        Of the document.
    requests : list of str
        All addresses that were asked for, but the page's own and ``data:``.
    result : Any
        What the `script` passed to `look` came to.
    """

    png_path: Path
    overflow: list[str]
    errors: list[str]
    text: str
    title: str
    requests: list[str]
    result: Any


class Chromium:
    """One browser; each `look` opens a tab of its own and closes it."""

    def __init__(self, path: str, folder: Path) -> None:
        import websocket

        self.folder, self.counter = folder, itertools.count(1)
        profile = folder / "profile"
        self.process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port, address = self._announced(profile / "DevToolsActivePort")
            self.socket = websocket.create_connection(
                f"ws://127.0.0.1:{port}{address}", timeout=SECONDS, suppress_origin=True
            )
        except BaseException:
            self._end()
            raise
        self.events: list[dict[str, Any]] = []

    def _announced(self, file: Path) -> list[str]:
        """Wait until the browser has written where it listens."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                lines = file.read_text().split()
                if len(lines) == 2:
                    return lines
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.process.args[0]} ended at once with status {self.process.returncode}")
            time.sleep(0.05)
        raise RuntimeError(f"{self.process.args[0]} did not start within {SECONDS} s")

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv())
        if "method" in message:
            self.events.append(message)
        return message

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Ask the browser something and return the answer."""
        number = next(self.counter)
        request = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self.socket.send(json.dumps(request))
        while True:
            message = self._receive()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]

    def evaluate(self, session: str, script: str) -> Any:
        """Return the value of a JavaScript expression, of a promise when it is kept."""
        answer = self.call("Runtime.evaluate", session, expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script[:60]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def look(
        self,
        url_or_path: str | Path,
        width: int = 1280,
        height: int = 800,
        *,
        dark: bool = False,
        media: str = "",
        script: str = "null",
    ) -> Page:
        """Open a page and see what a reader would.

        Parameters
        ----------
        url_or_path : str or Path
            An address, or a file on this machine.
        width, height : int
            Of the viewport in CSS pixels; below 600 the browser behaves as on a phone.
        dark : bool
            Whether the reader prefers dark colours.
        media : str
            ``"print"`` to see what is printed.
        script : str
            A JavaScript expression to evaluate in the page.
        """
        url = url_or_path if "://" in str(url_or_path) else Path(url_or_path).resolve(strict=True).as_uri()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events.clear()
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable", session)
            phone = {"deviceScaleFactor": 1, "mobile": width < 600}
            self.call("Emulation.setDeviceMetricsOverride", session, width=width, height=height, **phone)
            likes = [
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ]
            self.call("Emulation.setEmulatedMedia", session, media=media, features=likes)
            failed = self.call("Page.navigate", session, url=str(url)).get("errorText")
            if failed:
                raise RuntimeError(f"{url}: {failed}")
            while not any(event["method"] == "Page.loadEventFired" for event in self.events):
                self._receive()
            self.evaluate(session, SETTLED)
            overflow = self.evaluate(session, f"{OVERFLOW}({width})")
            text = self.evaluate(session, "document.body.innerText")
            title = self.evaluate(session, "document.title")
            result = self.evaluate(session, script)
            png = self._picture(session, width)
        finally:
            self.call("Target.closeTarget", targetId=target)
        requests = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        requests = [r for r in requests if r.partition("#")[0] != str(url).partition("#")[0] and r[:5] != "data:"]
        return Page(png, overflow, list(filter(None, map(_problem, self.events))), text, title, requests, result)

    def _picture(self, session: str, width: int) -> Path:
        size = self.call("Page.getLayoutMetrics", session)["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": width, "height": min(size["height"], 15_000), "scale": 1}
        shot = self.call("Page.captureScreenshot", session, format="png", captureBeyondViewport=True, clip=clip)
        path = self.folder / f"look-{next(self.counter)}.png"
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        self.socket.close()
        self._end()

    def _end(self) -> None:
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _problem(event: dict[str, Any]) -> str | None:
    """Say in a line what an event complains of, if it does."""
    params = event["params"]
    if event["method"] == "Runtime.exceptionThrown":
        details = params["exceptionDetails"]
        return str(details.get("exception", {}).get("description") or details["text"])
    if event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
        return f"{params['entry']['text']} {params['entry'].get('url', '')}".strip()
    if event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
        return " ".join(str(arg.get("value", arg.get("description", ""))) for arg in params["args"])
    return None


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The function ``look(url_or_path, width, height) -> Page`` of a Chromium that lives as long as the tests."""
    pytest.importorskip("websocket", reason="needs websocket-client: pip install 'xpnn[browser]'")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    chromium = Chromium(path, tmp_path_factory.mktemp("chromium"))
    yield chromium.look
    chromium.close()
