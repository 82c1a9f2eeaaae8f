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


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """runs/family and runs/family-small in a temporary folder, and settings of a few steps."""
    monkeypatch.delenv("LABOR_RUN", raising=False)
    monkeypatch.setenv("LABOR_HOME", str(tmp_path))
    for name in ("fonts", "styles"):
        config = SHIFTS[name]
        tiny = replace(config.training, steps=6, finetune_steps=3, select_every=1, batch_size=8)
        monkeypatch.setitem(SHIFTS, name, replace(config, training=tiny, few=(1, 3)))
    return tmp_path / "runs"


def finish(folders, shift, methods, seeds=(0,), few=(1, 3)):
    from labor_lib.runtime import Progress, make_fabric

    config = replace(SHIFTS[shift], few=few)
    out = folders / "family" / shift
    experiment = ClassificationPhases(
        config, Where(), out, make_fabric("cpu", "32-true"), Progress()
    )
    experiment.run([CLASSIFICATION[name] for name in methods], list(seeds))


def test_without_a_finished_run_a_small_one_is_made_and_says_so(folders, capsys):
    run = open_shift("fonts", "source_only", "finetune")
    assert run.small
    assert run.title("Accuracy") == "Accuracy (small run)"
    assert "small run 'fonts'" in capsys.readouterr().out
    assert run.methods == ["source_only", "finetune"]
    assert run.config.training.steps == 2, "a third of the steps"
    assert list(run.table["few"]) == [0, 1, 3]
    assert len(run.history("finetune", n=3)) == 1


def test_a_finished_run_is_preferred_unless_the_environment_says_small(folders, monkeypatch):
    finish(folders, "fonts", ["source_only"])
    run = open_shift("fonts", "source_only")
    assert not run.small
    assert run.title("Accuracy") == "Accuracy"
    assert run.config.training.steps == 6
    monkeypatch.setenv("LABOR_RUN", "small")
    assert open_shift("fonts", "source_only").small


def test_a_finished_run_without_the_method_or_the_number_is_not_taken(folders):
    finish(folders, "fonts", ["source_only", "finetune"], few=(1,))
    assert finished_shift("fonts", "source_only", "finetune") is not None
    assert finished_shift("fonts", "ccsa") is None
    assert finished_shift("fonts", "finetune", few=(3,)) is None
    assert finished_shift("fonts", "finetune", seed=1) is None
    assert finished_shift("nothing") is None


def test_the_table_keeps_the_seeds_that_all_methods_finished(folders):
    finish(folders, "fonts", ["source_only"], seeds=(0, 1))
    finish(folders, "fonts", ["finetune"], seeds=(0,))
    assert open_shift("fonts", "source_only").seeds == [0, 1]
    assert open_shift("fonts", "source_only", "finetune").seeds == [0]


def test_networks_score_what_the_table_says(folders):
    finish(folders, "fonts", ["source_only", "finetune", "dann"])
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
    finish(folders, "styles", ["source_only"])
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
    ],
)
def test_what_is_not_there_is_said(folders, ask, message):
    finish(folders, "fonts", ["source_only", "finetune"])
    with pytest.raises(InputError, match=message):
        ask(open_shift("fonts", "source_only", "finetune"))


def test_unknown_shifts_methods_and_folders_are_one_line(folders):
    with pytest.raises(InputError, match="unknown shift 'digits': choose one of textured"):
        open_shift("digits")
    with pytest.raises(InputError, match="'sagnet' does not apply to 'fonts'"):
        open_shift("fonts", "sagnet")
    with pytest.raises(InputError, match="shift 'ccsa' needs --root"):
        open_shift("ccsa")
    with pytest.raises(InputError, match="no such file"):
        ClassificationRun(folders / "family" / "fonts")
