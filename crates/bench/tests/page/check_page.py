#!/usr/bin/env python3
"""Opens a report in headless Chromium and says what is wrong with it.

It needs nothing but Python: it speaks the DevTools protocol over the browser's own pipes (file descriptors 3 and 4,
messages ended by a zero byte).
"""

import argparse
import base64
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
]

# What must be true of the page, computed in the page.
PROBE = """
(({figures, sections}) => {
  const wrong = [];
  const visible = element => { const box = element.getBoundingClientRect(); return box.width > 0 && box.height > 0; };
  for (const id of figures) {
    const section = document.getElementById(id);
    if (!section) { wrong.push(`no section ${id}`); continue; }
    const pictures = [...section.querySelectorAll('figure')];
    if (pictures.length === 0) wrong.push(`no picture in ${id}`);
    for (const picture of pictures) {
      const shown = [...picture.querySelectorAll('svg')].filter(visible);
      if (shown.length !== 1) wrong.push(`${shown.length} pictures shown instead of one in ${id}`);
      for (const svg of shown) wrong.push(...picture_problems(id, svg));
    }
  }
  for (const id of sections) {
    const section = document.getElementById(id);
    if (!section || !visible(section)) wrong.push(`no section ${id}`);
  }
  const width = document.documentElement.scrollWidth;
  if (width > window.innerWidth) wrong.push(`the page is ${width} px wide in a window of ${window.innerWidth}`);
  if (/NaN|undefined|Infinity/.test(document.body.textContent)) wrong.push('a number is none');
  return wrong;

  function picture_problems(id, svg) {
    const wrong = [];
    const frame = svg.getBoundingClientRect();
    const words = [...svg.querySelectorAll('text')].map(text => ({text: text.textContent.trim(), box: text.getBoundingClientRect()}));
    for (const {text, box} of words) {
      if (box.height < 7) wrong.push(`${id}: "${text}" is ${box.height.toFixed(1)} px high: too small to read`);
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        wrong.push(`${id}: "${text}" reaches beyond its picture`);
    }
    for (let i = 0; i < words.length; i++) for (let j = i + 1; j < words.length; j++) {
      const [a, b] = [words[i].box, words[j].box];
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 3) wrong.push(`${id}: "${words[i].text}" and "${words[j].text}" stand upon each other`);
    }
    for (const shape of svg.querySelectorAll('[fill], [stroke]')) {
      const style = getComputedStyle(shape);
      if (shape.getAttribute('fill') !== 'none' && shape.hasAttribute('fill') && style.fill === 'none')
        wrong.push(`${id}: a shape without its colour`);
    }
    return wrong;
  }
})(ARGUMENTS)
"""


# What a browser may take for one answer. It is no measure of speed, but the end of a test that would wait for ever.
ANSWER_S_MAX = 60


class Silent(Exception):
    """The browser does not answer."""


class Browser:
    """A browser, and one page in it."""

    def __init__(self, chromium, folder):
        to_browser, from_us = os.pipe()
        from_browser, to_us = os.pipe()

        def place_pipes():
            # Both might stand on the numbers that they are to get.
            reading, writing = os.dup(to_browser), os.dup(to_us)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        command = [chromium, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(
            command, close_fds=False, preexec_fn=place_pipes, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(to_us)
        self.writing = from_us
        self.reading = from_browser
        self.buffer = b""
        self.count = 0
        self.events = []
        self.session = None
        # A page of our own: the one that the browser opens by itself may still be about to be made.
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def receive(self):
        while b"\0" not in self.buffer:
            if not select.select([self.reading], [], [], ANSWER_S_MAX)[0]:
                raise Silent(f"the browser did not answer within {ANSWER_S_MAX} s")
            data = os.read(self.reading, 1 << 16)
            if not data:
                raise Silent("the browser ended before it answered")
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, url):
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())

    def evaluate(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise SystemExit(f"the probe failed: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def close(self):
        try:
            self.session = None
            self.call("Browser.close")
            self.process.wait(timeout=30)
        except (Silent, SystemExit, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.writing)
        os.close(self.reading)


def complaints(events, url):
    """What the browser itself complained of, and what the page asked others for."""
    for event in events:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            yield f"console: {parameters['exceptionDetails'].get('text')}"
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            yield f"console: {parameters['args']}"
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            yield f"console: {parameters['entry']['text']}"
        elif method == "Network.requestWillBeSent":
            asked = parameters["request"]["url"]
            if asked != url and not asked.startswith("data:"):
                yield f"the page asks for {asked[:100]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--figure", action="append", default=[], help="the id of a section with a picture")
    parser.add_argument("--section", action="append", default=[], help="the id of a section")
    parser.add_argument("--probe", type=pathlib.Path, help="a script of which the value is a list of problems")
    parser.add_argument("--screenshots", type=pathlib.Path, help="a folder for pictures of the page")
    options = parser.parse_args()
    # A browser that hangs says nothing about the page; one that hangs three times does.
    for attempt in range(3):
        try:
            wrong = check(options)
            break
        except Silent as silence:
            wrong = [str(silence)]
    for problem in wrong:
        print(problem)
    sys.exit(1 if wrong else 0)


def check(options):
    """All that is wrong with the page."""
    url = options.page.resolve().as_uri()
    wanted = json.dumps({"figures": options.figure, "sections": options.section})
    wrong = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(options.chromium, folder)
        try:
            for width in [1200, 400]:
                for scheme in ["light", "dark"]:
                    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                                 mobile=False)
                    browser.call("Emulation.setEmulatedMedia",
                                 features=[{"name": "prefers-color-scheme", "value": scheme}])
                    browser.open(url)
                    found = browser.evaluate(PROBE.replace("ARGUMENTS", wanted))
                    if options.probe:
                        found += browser.evaluate(options.probe.read_text())
                    found += list(complaints(browser.events, url))
                    wrong += [f"{width} px, {scheme}: {problem}" for problem in found]
                    if options.screenshots:
                        picture(browser, options.screenshots, f"{width}-{scheme}")
            backs = set()
            for scheme in ["light", "dark"]:
                browser.call("Emulation.setEmulatedMedia",
                             features=[{"name": "prefers-color-scheme", "value": scheme}])
                backs.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
            if len(backs) != 2:
                wrong.append("light and dark have the same background")
            if options.screenshots:
                browser.call("Emulation.setEmulatedMedia", media="print", features=[])
                browser.call("Emulation.clearDeviceMetricsOverride")
                printed = browser.call("Page.printToPDF", printBackground=False)["data"]
                (options.screenshots / "print.pdf").write_bytes(base64.b64decode(printed))
        finally:
            browser.close()
    return wrong


def picture(browser, folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    data = browser.call("Page.captureScreenshot", captureBeyondViewport=True,
                        clip=dict(browser.call("Page.getLayoutMetrics")["cssContentSize"], scale=1))["data"]
    (folder / f"{name}.png").write_bytes(base64.b64decode(data))


if __name__ == "__main__":
    main()
