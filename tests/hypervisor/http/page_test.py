# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: what the simulated GPU's tenants do is drawn and goes on being drawn; hostile names stay text;
200 tenants are drawn; nothing is asked of anybody else."""
import html
import json
import os
import re

from served import Folder, SOURCE, needed, wait_for

CHROMIUM = needed("chromium", "chromium")


class Page:
    """One page in a browser of its own, spoken to by its debugging pipe."""

    def __init__(self, folder, port):
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        def place():  # the browser reads 3 and writes 4
            os.dup2(to_read, 63)
            os.dup2(from_write, 64)
            os.dup2(63, 3)
            os.dup2(64, 4)
        folder.start(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                     f"--user-data-dir={folder.path}/chromium", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank",
                     stdout=-3, stderr=-3, preexec_fn=place, pass_fds=(3, 4))
        os.close(to_read)
        os.close(from_write)
        self.to, self.back, self.number, self.session = to_write, os.fdopen(from_read, "rb", buffering=0), 0, None
        self.held = b""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Page.enable")
        self.ask("Page.navigate", url=f"http://127.0.0.1:{port}/")
        wait_for(lambda: self.value("document.readyState === 'complete' && document.getElementById('tenants') !== null"), "the page")

    def ask(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.held:
                chunk = self.back.read(65536)
                assert chunk, "the browser ended"
                self.held += chunk
            text, self.held = self.held.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, script):
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def document(self):
        return self.value("document.documentElement.outerHTML")


def rows(document, table):
    body = re.search(rf'<table id="{table}">.*?<tbody>(.*?)</tbody>', document, re.S)[1]
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)]
            for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.S)]


def nothing_from_elsewhere():
    for name in ("index.html", "page.css", "page.js"):
        text = (SOURCE / "src/hypervisor/http/page" / name).read_text()
        found = re.findall(r"""(?:https?:)?//[a-z0-9.]+\.[a-z]+[^"'\s]*""", re.sub(r"(?m)^\s*//.*$|//  ?.*$", "", text))
        assert [one for one in found if "www.w3.org/2000/svg" not in one] == [], found
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "onclick=\"", "style=\""):
            assert sink not in text, f"{name}: {sink}"


def hostile_names_stay_text():
    with Folder() as folder:
        port, _, _ = folder.fixture()
        page = Page(folder, port)
        wait_for(lambda: page.value("document.querySelectorAll('#tenants tbody tr').length === 2 && document.querySelectorAll('#events li').length > 2"),
                 "two tenants and the events")
        document = page.document()
        assert "<img" not in document, "a name became markup"
        names = [row[0] for row in rows(document, "tenants")]
        assert any(name.startswith("<img src=x onerror=alert(1)>") for name in names), names
        assert any("UNLIMITED" in row for row in rows(document, "processes"))
        assert "<img src=x onerror" in html.unescape(re.search(r'<ol id="events".*?</ol>', document, re.S)[0])
        assert "fell off the bus" in document
        wait_for(lambda: page.value("performance.getEntriesByType('resource').some((one) => one.name.includes('/events?'))"), "the events so far")
        folder.started[0].stdin.write("withdrawn\n")
        folder.started[0].stdin.flush()
        wait_for(lambda: page.value("document.getElementById('events').textContent.includes('withdrawnit happened just now')"), "an event as it happens")
        assert "MIG mode, 1 MIG device: quotas are of the whole GPU" in document


def two_hundred_are_drawn():
    with Folder() as folder:
        port, _, _ = folder.fixture(200)
        page = Page(folder, port)
        count = "document.querySelectorAll('#tenants tbody tr').length"
        wait_for(lambda: page.value(count) == 200, "200 tenants")
        assert page.value("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
        page.value("{const box = document.getElementById('filter'); box.value = 'tenant-17'; box.dispatchEvent(new Event('input'));}")
        wait_for(lambda: page.value(count) == 11, "the filter")


def tenants_at_work_are_drawn():
    with Folder() as folder:
        port = folder.daemon()
        for name, share in (("train", 30), ("serve", 60)):
            folder.tenant(name, share)
        page = Page(folder, port)
        def drawn():
            found = {row[0]: row for row in rows(page.document(), "tenants")}
            if set(found) != {"train", "serve"}:
                return None
            got = {name: float(row[4].split(" ")[0]) for name, row in found.items()}
            return got if min(got.values()) > 1 else None
        got = wait_for(drawn, "two tenants that get something")
        again = wait_for(lambda: (lambda seen: seen if seen and seen != got else None)(drawn()), "other figures")
        wait_for(lambda: page.value("document.querySelector('svg.spark path').getAttribute('d').split('L').length > 3"), "a line that grows")
        wait_for(lambda: page.value("['tenant_began', 'process_joined'].every((kind) => document.getElementById('events').textContent.includes(kind))"),
                 "its events")
        assert "4.0 GiB" in rows(page.document(), "tenants")[0][6]
        # A tenant's histories, by the keyboard's way: its name is a button.
        page.value("document.querySelector('#tenants tbody button').click()")
        wait_for(lambda: page.value("document.querySelectorAll('#charts svg.chart').length === 2"), "charts")
        assert page.value("document.activeElement.id") == "close"
        assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(247, 247, 245)"
        page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 23)"
        print("drawn", got, again)


nothing_from_elsewhere()
hostile_names_stay_text()
two_hundred_are_drawn()
tenants_at_work_are_drawn()
