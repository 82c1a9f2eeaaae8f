"""What the dashboard leaves behind: the kernel of a closed page ends."""

import re
import time
from contextlib import suppress

import nbformat
import psutil
from browser.conftest import SHOTS, free_port, serving
from browser.test_dashboard import MAKEFILE


def kernels() -> list[psutil.Process]:
    """Kernels that servers of this test process have started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended while it was looked at
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and "ipykernel_launcher" in process.cmdline():
                found.append(process)
    return found


def wait_until(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.3)
    return condition()


def test_the_kernel_of_a_closed_page_ends(browser, tmp_path):
    """The Makefile's culling, with seconds for its minutes."""
    culling = re.search(r"(?m)^CULLING = (.+)$", MAKEFILE)[1].split()
    quick = [re.sub(r"=\d+$", "=2", option) for option in culling]
    assert quick != culling
    cells = [nbformat.v4.new_code_cell("print('six times nine is', 6 * 9)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "small.ipynb")
    SHOTS.mkdir(exist_ok=True)
    port, before = free_port(), len(kernels())
    command = ["voila", str(tmp_path / "small.ipynb"), "--Voila.ip=127.0.0.1", f"--port={port}"]
    with serving([*command, *quick, "--no-browser"], f"http://127.0.0.1:{port}/static/") as url:
        page = browser.new_page()
        page.goto(url.removesuffix("static/"), timeout=120_000)
        page.get_by_text("is 54").wait_for(timeout=120_000)
        time.sleep(6)  # an open page keeps its kernel
        assert len(kernels()) == before + 1
        page.close()
        assert wait_until(lambda: len(kernels()) == before, 60)
