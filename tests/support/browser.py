# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Drive Chromium through its DevTools protocol on a pipe: open pages, click, fill in, take pictures."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.peers import peer
from tests.support.waiting import PATIENCE_SECONDS, until


class Browser:
    """A context manager with one tab. It opens loopback addresses only: nothing else is resolved."""

    def __init__(self, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Take the size of the window in CSS pixels."""
        self._width, self._height, self._dark = width, height, dark
        self._number = 0
        self._unread = b""
        self._is_loaded = False
        """Whether the page has loaded that was asked for last."""
        self._session = ""
        self.clicks = 0
        """Clicks and sent forms since the start."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="veilleuse-browser-", ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The protocol fixes the numbers: the browser reads from 3 and writes to 4.
        shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
        self._process = subprocess.Popen(
            [
                "/bin/bash",
                "-c",
                shell,
                "browser",
                peer("chromium"),
                "--headless",
                "--no-sandbox",  # it opens our own pages only, and root has no sandbox
                "--disable-gpu",
                "--hide-scrollbars",
                "--no-first-run",
                "--disable-background-networking",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--user-data-dir={self._folder.name}",
                "--remote-debugging-pipe",
            ],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Page.enable")
        self._ask(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if self._dark else "light"}],
        )
        self.resize(self._width, self._height)
        until(lambda: self.run("document.readyState") == "complete", "the empty page does not load")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_SECONDS)
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._folder.cleanup()

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window in CSS pixels."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        self._is_loaded = False
        self._ask("Page.navigate", url=url)
        self._wait_for_load()

    def click(self, text: str) -> None:
        """Click the first visible link or button with this text, and wait for the page it leads to."""
        script = """(text => {
          const found = [...document.querySelectorAll('a, button')].find(
            one => one.textContent.trim().includes(text) && one.checkVisibility());
          if (!found) return false;
          found.click();
          return true;
        })"""
        self._is_loaded = False
        found = self.run(f"{script}({json.dumps(text)})")
        assert found, f"nothing to click says {text!r} on {self.address}"
        self.clicks += 1
        self._wait_for_load()

    def fill(self, name: str, value: str) -> None:
        """Set the field of this name."""
        script = "((name, value) => { document.querySelector(`[name=${name}]`).value = value; })"
        self.run(f"{script}({json.dumps(name)}, {json.dumps(value)})")

    @property
    def address(self) -> str:
        """Return the address of the page."""
        return str(self.run("location.href"))

    @property
    def text(self) -> str:
        """Return the text of the page as a person sees it."""
        return str(self.run("document.body.innerText"))

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, file: Path) -> None:
        """Write a PNG of the whole page."""
        size = self._ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": self._width_now(), "height": size["height"], "scale": 1}
        answer = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(answer["data"]))

    def _width_now(self) -> int:
        return int(self.run("innerWidth"))

    def _wait_for_load(self) -> None:
        while not self._is_loaded:
            self._next()

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                found: dict[str, Any] = answer["result"]
                return found

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            said = select.select([self._read], [], [], PATIENCE_SECONDS)[0]
            assert said, f"the browser says nothing; the page is loaded: {self._is_loaded}"
            more = os.read(self._read, 1 << 20)
            assert more, "the browser ended"
            self._unread += more
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        self._is_loaded |= found.get("method") == "Page.loadEventFired"
        return found
