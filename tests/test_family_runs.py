"""Opening finished and small runs of the family: what is found, what is made, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from labor_lib.config import SHIFTS, Where
from labor_lib.errors import InputError
from labor_lib.lab.classification import ClassificationPhases
from labor_lib.lab.runs import ClassificationRun, finished_shift, open_shift
from labor_lib.methods.registry import CLASSIFICATION
from labor_lib.runtime import Progress, make_fabric


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """runs/family of a project: tiny runs of 'fonts' and 'styles'; the settings they are of."""
    home, fabric, settings = tmp_path_factory.mktemp("project"), make_fabric("cpu", "32-true"), {}
    few = {"steps": 6, "finetune_steps": 3, "select_every": 1, "batch_size": 8}
    for shift, methods, seeds in (
        ("fonts", ("source_only",), (0, 1)),
        ("fonts", ("finetune", "dann"), (0,)),
        ("styles", ("source_only",), (0,)),
    ):
        config = SHIFTS[shift]
        config = replace(config, training=replace(config.training, **few), few=(3,))
        settings[shift] = config
        out = home / "runs" / "family" / shift
        phases = ClassificationPhases(config, Where(), out, fabric, Progress())
        phases.run([CLASSIFICATION[name] for name in methods], list(seeds))
    return home, settings


@pytest.fixture
def folders(finished, monkeypatch):
    """The project's folder of runs, for `open_shift`."""
    home, settings = finished
    monkeypatch.delenv("LABOR_RUN", raising=False)
    monkeypatch.setenv("LABOR_HOME", str(home))
    for shift, config in settings.items():
        monkeypatch.setitem(SHIFTS, shift, config)
    return home / "runs"


def test_a_finished_run_is_preferred(folders):
    run = open_shift("fonts", "source_only")
    assert not run.small
    assert run.title("Accuracy") == "Accuracy"
    assert run.config.training.steps == 6
    assert run.seeds == [0, 1]
    assert open_shift("fonts", "source_only", "finetune").seeds == [0], "which both have finished"


@pytest.mark.parametrize("why", ["method", "number", "seed", "shift", "LABOR_RUN"])
def test_a_small_run_is_made_where_none_fits_and_says_so(
    folders, why, monkeypatch, tmp_path, capsys
):
    assert finished_shift("fonts", "source_only", "finetune") is not None
    assert finished_shift("nothing") is None
    if why == "LABOR_RUN":
        monkeypatch.setenv("LABOR_RUN", "small")
        monkeypatch.setenv("LABOR_HOME", str(tmp_path))
        run = open_shift("fonts", "source_only", "finetune")
        assert run.small
        assert run.title("Accuracy") == "Accuracy (small run)"
        assert "small run 'fonts'" in capsys.readouterr().out
        assert run.methods == ["source_only", "finetune"]
        assert run.config.training.steps == 2, "a third of the steps"
        assert len(run.history("finetune", n=3)) == 1
    else:
        asked = {"method": "joint", "shift": "finetune"}.get(why, "finetune")
        more = {"number": {"few": (1,)}, "seed": {"seed": 1}}.get(why, {})
        assert finished_shift("styles" if why == "shift" else "fonts", asked, **more) is None


def test_networks_score_what_the_table_says(folders):
    run = open_shift("fonts", "source_only", "finetune", "dann")
    for method, n in (("source_only", None), ("finetune", 3), ("dann", None)):
        domain = run.problem(0, "", n).target_test
        right = run.predictions(run.net(method, n=n), domain) == domain.labels.numpy()
        rows = run.table[(run.table["method"] == method) & (run.table["few"] == (n or 0))]
        # ponderous in bf16: the last digit may differ from the run's precision
        assert 100 * right.mean() == pytest.approx(rows["accuracy"].item(), abs=0.3), method
    features = run.features(run.net("source_only"), domain)
    assert features.shape == (len(domain), run.net("source_only").width)
    logits = run.net("source_only").classifier(torch.from_numpy(features[:4]))
    np.testing.assert_array_equal(
        logits.argmax(1), run.predictions(run.net("source_only"), domain)[:4]
    )
    assert run.load("discriminator", "dann") is not None


def test_selected_and_last_weights_are_networks_of_their_own(folders):
    """Opening one may not change the other."""
    run = open_shift("styles", "source_only")
    target = run.targets[1]
    last = run.load("net", "source_only", target=target)
    selected = run.net("source_only", target=target)
    for net, name in ((selected, "selected"), (last, "net")):
        stored = load_file(run.path("source_only", target=target) / f"{name}.safetensors")
        for key, value in stored.items():
            torch.testing.assert_close(net.state_dict()[key], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: run.net("finetune", n=5), "finetune-5: not finished, or not run"),
        (lambda run: run.load("style", "source_only"), "source_only has no network 'style'"),
        (lambda run: open_shift("digits"), "unknown shift 'digits': choose one of textured"),
        (lambda run: open_shift("fonts", "sagnet"), "'sagnet' does not apply to 'fonts'"),
        (lambda run: open_shift("ccsa"), "shift 'ccsa' needs --root"),
        (lambda run: ClassificationRun(run.folder / "gone"), "no such file"),
    ],
)
def test_what_is_not_there_is_said(folders, ask, message):
    run = open_shift("fonts", "source_only", "finetune")
    with pytest.raises(InputError, match=message):
        ask(run)
