"""What builds the project on hosted machines: Binder's files and the development container."""

import json
import os
import re
import subprocess

import pytest

from tools.notebooks import PROJECT

BINDER = PROJECT / "binder"


def test_binder_installs_the_projects_versions_without_cuda():
    lines = (BINDER / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "--extra-index-url https://download.pytorch.org/whl/cpu",
        "-r ../requirements.txt",
    ]
    assert re.fullmatch(r"python-3\.1[1-3]\n", (BINDER / "runtime.txt").read_text())


@pytest.mark.skipif(os.name == "nt", reason="scripts of a Linux image")
def test_binders_scripts_can_run():
    assert os.access(BINDER / "postBuild", os.X_OK)
    shown = subprocess.run([BINDER / "start", "env"], capture_output=True, text=True, check=True)
    assert "OMP_NUM_THREADS=2" in shown.stdout.splitlines()


def test_the_container_forwards_the_ports_of_make():
    container = json.loads((PROJECT / ".devcontainer" / "devcontainer.json").read_text())
    ports = re.findall(r"--port=(\d+)", (PROJECT / "Makefile").read_text())
    assert container["forwardPorts"] == [8888, *map(int, ports)]  # 8888: JupyterLab's own
    assert list(map(int, container["portsAttributes"])) == container["forwardPorts"]
    assert "binder/requirements.txt" in container["postCreateCommand"]
