"""The guide: every way ends in an advice, and its code runs on all of its data."""

import ast
import importlib
import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from labor_lib.config import SHIFTS, SMOKE, Where, configure
from labor_lib.lab import classification as lab
from labor_lib.lab import runs
from labor_lib.lab.ui import guide
from labor_lib.methods.registry import CLASSIFICATION, METHODS, resolve

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def test_every_question_is_asked_and_every_advice_given():
    ways = [step for line in guide.leaves() for step in line.way]
    assert {name for name, _ in ways} == set(guide.QUESTIONS)
    assert {line.advice.name for line in guide.leaves()} == set(guide.ADVICE)
    for name, advice in guide.ADVICE.items():
        assert all((NOTEBOOKS / f"{name}.ipynb").exists() for name in advice.notebooks)
        for data in advice.data:  # the code imports what there is, its methods run on its data
            code = guide.code(name, data)
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, alias.name) for alias in node.names)
            found = re.search(r"(?m)^methods = (.*)$", code)
            methods = ast.literal_eval(found[1]) if found else ["source_only"]
            assert set(methods) <= set(METHODS if data == "streets" else SHIFTS[data].methods)
            for line in code.replace("\\\n#", "").splitlines():  # the lines of a command as one
                if " family --shift folder" in line:
                    pair = Where(source="A", target="B") if "--source" in line else Where()
                    listed = line.split("--methods ")[1].split(",")
                    assert listed == [m.name for m in resolve(listed, configure("folder", pair))]


def test_all_answers_together_lead_somewhere():
    """One advice each, whatever is answered to the questions that are not asked."""
    choices = [question["answers"] for question in guide.QUESTIONS.values()]
    for answers in itertools.product(*choices):
        answers = dict(zip(guide.QUESTIONS, answers, strict=True))
        way = guide.path(**answers)
        assert all(answers[name] == answer for name, answer in way)
        lines = [line for line in guide.leaves() if line.lies_on(way)]
        assert [line.advice for line in lines] == [guide.advise(**answers)]
        assert guide.advise(**dict(way)) == guide.advise(**answers)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """No finished run, and trainings of a few steps."""
    monkeypatch.setenv("LABOR_RUN", "small")
    monkeypatch.setenv("LABOR_HOME", str(tmp_path))
    monkeypatch.setattr(runs, "preset", lambda name: replace(SMOKE, preset=name))
    drawn = lab.styles(0)
    few = {name: domain.take(list(range(0, 420, 5))) for name, domain in drawn.items()}
    monkeypatch.setattr(lab, "styles", lambda seed: few)
    for name in ("textured", "fonts", "styles"):
        config = SHIFTS[name]
        short = {"steps": 6, "finetune_steps": 3, "batch_size": 8}
        short["select_every"] = 3 if config.training.select_every else 0
        config = replace(config, training=replace(config.training, **short))
        monkeypatch.setitem(SHIFTS, name, config)


@pytest.mark.parametrize(
    ("name", "data"),  # one of each template
    [
        ("finetune", "fonts"), ("sagnet", "styles"), ("streets_source_only", "streets"),
        ("open_set", "fonts"), ("other_output", "fonts"),
    ],
)  # fmt: skip
def test_the_code_runs(name, data, tiny, capsys):
    found = {"__name__": "__main__"}
    exec(compile(guide.code(name, data), "<guide>", "exec"), found)
    said, template = capsys.readouterr().out, guide.ADVICE[name].code
    assert found["run"].small
    if template == "compare":
        assert all(CLASSIFICATION[method].title in said for method in found["methods"])
        assert found["figure"].axes
    elif template == "streets":
        assert all(re.search(rf"(?m)^{method} +\d", said) for method in found["methods"])
        assert len(found["figure"].axes) == 3 * (1 + len(found["methods"]))
    elif template == "overlap":
        assert len(re.findall(r"\d+\.\d %", said)) == 2
        assert ("letter a" in said) == (name == "open_set")
    else:
        assert len(re.findall(r"distance [\d.]+", said)) == 2
