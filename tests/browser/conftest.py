"""A browser, JupyterLab and the dashboard, for the tests that drive them.

The browser is Debian's Chromium, or another one that is there, or Playwright's own. Without any
the tests skip; with LABOR_BROWSER=must they fail instead. Screenshots go to tests/browser/shots.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Error, sync_playwright

PROJECT = Path(__file__).parents[2]
SHOTS = Path(__file__).with_name("shots")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
LAB_SETTINGS = {
    "notebook-extension/tracker": {
        "windowingMode": "none",  # all cells, also those out of sight
        "autoStartDefaultKernel": True,  # no dialog asks for one
    },
    "apputils-extension/notification": {"fetchNews": "false"},
}
SHORTENED = {  # a notebook that trains much: the cells that its view needs
    "05_pixel_selector": (
        "from dataclasses", "run = open_run(", "with TemporaryDirectory(", "looked = np.arange(",
        "def train_by_hand(", "steps = sorted(kept)", "slider = DisagreementSlider(",
    ),
    "07_ppl": ("import numpy", "run = open_run(", "index, stage = 45", "viewer = PrototypeViewer("),
    "10_photographs": ("import torch", "run = open_run(", "def spread(", "explorer = Selection"),
    "11_is_it_cheap": ("import numpy", "METHODS = (", "asked = run.sel", "sheet = Annotation"),
    "16_arena": ("import numpy", "run = arena.open_run(", "index, number", "explorer = Selection"),
    "13_ccsa": ("import torch", "run = open_shift(", "playground = AlignmentPlayground("),
}  # fmt: skip
READY = 120  # seconds a server may take to answer


@pytest.fixture(scope="session")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    with sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        except Error as error:
            why = f"no browser here (Debian: apt install chromium): {error.message[:200]}"
            if os.environ.get("LABOR_BROWSER") == "must":
                pytest.fail(why)
            pytest.skip(why)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, request):
    """A page whose last state is kept as a screenshot, whatever happens."""
    context = browser.new_context(viewport={"width": 1400, "height": 1100})
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"{request.node.name}.png")
    context.close()


@contextmanager
def serving(command: list[str], url: str):
    """A server of this environment, until the block ends."""
    log = SHOTS / f"{command[0]}.log"
    SHOTS.mkdir(exist_ok=True)
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=output, stderr=output, cwd=PROJECT
        )
        try:
            _wait(server, url, log)
            yield url
        finally:
            server.terminate()
            server.wait(20)


def _wait(server, url: str, log: Path) -> None:
    end = time.monotonic() + READY
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5)
        except urllib.error.HTTPError:
            return  # no such page, but the server is there
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise RuntimeError(f"{url} does not answer: {log.read_text(encoding='utf-8')[-2000:]}")


@contextmanager
def served_by_make(*target: str):
    """A target of the Makefile, which Voila serves, on another port: address, what make prints."""
    made = subprocess.run(["make", "-n", *target], cwd=PROJECT, capture_output=True, text=True)
    # inside `make test` other lines stand around the command (make[1]: Entering directory ...)
    words = re.search(r"-m (voila .+)$", made.stdout, re.MULTILINE)[1].split()
    port = free_port()
    command = [re.sub(r"^--port=\d+$", f"--port={port}", word) for word in words]
    assert f"--port={port}" in command
    assert "--Voila.ip=127.0.0.1" in command  # on this machine alone
    with serving([*command, "--no-browser"], f"http://127.0.0.1:{port}/static/") as url:
        yield url.removesuffix("static/"), made.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab on copies of the notebooks without outputs: its address."""
    folder = tmp_path_factory.mktemp("lab")
    for path in sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb")):
        book = nbformat.read(path, as_version=4)
        for cell in book.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        parts = SHORTENED.get(path.stem, ("",))  # "" is in every cell
        book.cells = [cell for cell in book.cells if any(part in cell.source for part in parts)]
        nbformat.write(book, folder / path.name)
    for name, settings in LAB_SETTINGS.items():
        path = folder / ".settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), encoding="utf-8")
    os.environ["JUPYTERLAB_SETTINGS_DIR"] = str(folder / ".settings")
    port = free_port()
    command = [
        "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--allow-root",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None",
    ]  # fmt: skip
    with serving(command, f"http://127.0.0.1:{port}") as url:
        yield url
