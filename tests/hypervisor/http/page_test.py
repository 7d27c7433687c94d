# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: what the simulated GPU's tenants do is drawn and goes on being drawn; hostile names stay text;
200 tenants are drawn; nothing is asked of anybody else."""
import html
import re
import subprocess

from served import BIN, Folder, SOURCE, needed, wait_for

CHROMIUM = needed("chromium", "chromium")


def rendered(folder, port, seconds):
    """The document after so many seconds."""
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder.path}/chromium",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--timeout={seconds * 1000}", "--window-size=1400,1000",
         "--dump-dom", f"http://127.0.0.1:{port}/"],
        env=folder.environment, capture_output=True, text=True, timeout=90, check=False)
    assert "<html" in done.stdout, done.stderr[-2000:]
    return done.stdout


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
        document = rendered(folder, port, 5)
        assert "<img" not in document, "a name became markup"
        names = [row[0] for row in rows(document, "tenants")]
        assert any(name.startswith("<img src=x onerror=alert(1)>") for name in names), names
        assert any("UNLIMITED" in row for row in rows(document, "processes"))
        assert "<img src=x onerror" in html.unescape(re.search(r'<ol id="events".*?</ol>', document, re.S)[0])
        assert "fell off the bus" in document


def tenants_at_work_are_drawn():
    with Folder() as folder:
        port = folder.daemon()
        for name, share in (("train", 30), ("serve", 60)):
            folder.start(BIN / "vgpu", "run", "-q", "--gpu", "0", "--name", name, "--memory", "4GiB", "--compute", share, "--", BIN / "workload",
                         "--mode", "queued", "--steps", "1000000", "--kernel-us", "1000", "--seconds", "300", stdout=-3, stderr=-3)
        def drawn():
            document = rendered(folder, port, 6)
            found = {row[0]: row for row in rows(document, "tenants")}
            if set(found) != {"train", "serve"}:
                return None
            got = {name: float(row[4].split(" ")[0]) for name, row in found.items()}
            return (document, got) if min(got.values()) > 1 else None
        document, got = wait_for(drawn, "two tenants that get something")
        assert "4.0 GiB" in rows(document, "tenants")[0][6]
        # Several readings of one page, and figures that move.
        spark = re.search(r'<svg class="spark".*?<path class="line got" d="([^"]*)"', document, re.S)[1]
        assert spark.count("L") >= 2, spark
        again = wait_for(lambda: (lambda seen: seen if seen and seen[1] != got else None)(drawn()), "other figures")
        assert again[1] != got
        assert "tenant_began" in document and "process_joined" in document
        print("drawn", got, again[1])


nothing_from_elsewhere()
hostile_names_stay_text()
tenants_at_work_are_drawn()
