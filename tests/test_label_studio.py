"""A round trip through a real Label Studio server, started on this machine.

    LABOR_LABEL_STUDIO=/path/to/label-studio python -m pytest -m slow tests/test_label_studio.py

The program belongs into an environment of its own: `python -m venv ls`,
`ls/bin/pip install label-studio==1.23.2`, `LABOR_LABEL_STUDIO=ls/bin/label-studio`.
"""

import json
import os
import socket
import subprocess
import time
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from test_exchange import CLASSES, PIECES, POINTS, given, make, needs_sdk

from labor_lib.annotation.exchange import CANNOT_TELL, export_questions, import_answers

PROGRAM = os.environ.get("LABOR_LABEL_STUDIO")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="set LABOR_LABEL_STUDIO to the label-studio program"),
]


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """Starts the server; call(method, path, value) asks its API."""
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "LATEST_VERSION_CHECK": "false",
    }  # fmt: skip
    command = [
        PROGRAM, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port),
        "--data-dir", str(folder), "--username", "ann@example.org", "--password", "long-enough-1",
        "--user-token", TOKEN,
    ]  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=clean | settings)

    def ask(method: str, path: str, value=None):
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        body = None if value is None else json.dumps(value).encode()
        request = Request(f"http://127.0.0.1:{port}/{path}", body, headers, method=method)
        try:
            with urlopen(request, timeout=60) as reply:
                return json.loads(reply.read() or "null")
        except HTTPError as error:
            pytest.fail(f"{method} {path}: {error.code} {error.read()[:500]}")

    try:
        for _ in range(1200):
            assert server.poll() is None, (folder / "server.log").read_text()[-2000:]
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except (URLError, OSError):
                time.sleep(1)
        else:  # its first start makes a database, which takes minutes of a busy machine
            pytest.fail("Label Studio did not answer within 20 minutes; is the machine free?")
        yield ask
    finally:
        server.terminate()
        server.wait(60)
        log.close()


@pytest.mark.parametrize("kind", ["point", pytest.param("segment", marks=needs_sdk)])
def test_a_round_trip_through_the_server(kind, call, tmp_path):
    store = make(tmp_path, (33, 47), *((POINTS,) if kind == "point" else (((), ()), PIECES)))
    questions = {one.id: one for one in store.questions()}
    _, (tasks, labels) = export_questions(store, "label-studio", tmp_path / "questions.json")
    settings = {"title": "labor", "label_config": labels.read_text(encoding="utf-8")}
    project = call("POST", "api/projects", settings)["id"]
    call("POST", f"api/projects/{project}/import", json.loads(tasks.read_text(encoding="utf-8")))
    listed = call("GET", f"api/tasks?project={project}&fields=all")["tasks"]
    assert len(listed) == len({one.image for one in questions.values()})
    for task in listed:  # a person takes the suggestion over and corrects its labels
        task = call("GET", f"api/tasks/{task['id']}")
        (suggested,) = task["predictions"]
        for region in suggested["result"]:
            label = int(region["id"].removeprefix("question-")) % 4
            region["value"][region["type"]] = [(*CLASSES, CANNOT_TELL)[label]]
        value = {"result": suggested["result"], "lead_time": 4.5}
        call("POST", f"api/tasks/{task['id']}/annotations", value)
    exported = call("GET", f"api/projects/{project}/export?exportType=JSON")
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(exported), encoding="utf-8")
    assert import_answers(store, "label-studio", answers) == (len(questions), 0)
    assert given(store) == {
        number: dict.fromkeys(one.positions.tolist(), (0, 1, 2, 255)[number % 4])
        for number, one in questions.items()
    }
    assert set(store.answers()["annotator"]) == {"1"}  # the export names people by their number
    assert store.answers()["seconds"].sum() == pytest.approx(4.5 * len(listed))
