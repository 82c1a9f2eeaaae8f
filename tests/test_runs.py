"""Opening runs: what a view holds is what the run saw; the small preset where a run is missing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_metrics import miou_of

from labor_lib.config import SHIFTS, SMOKE, Where, changed
from labor_lib.data.segmentation import joint_transform
from labor_lib.errors import InputError
from labor_lib.lab import pipeline, runs
from labor_lib.lab.classification import ClassificationPhases
from labor_lib.lab.scene import Scene
from labor_lib.lab.segmentation import Roots, SegmentationPhases
from labor_lib.methods.adabn import estimate_statistics
from labor_lib.methods.registry import CLASSIFICATION, resolve
from labor_lib.nets.deeplab import upsample
from labor_lib.runtime import load_weights, make_fabric

TWO_STAGES = changed(SMOKE, budget={"stages": 2})


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project's folder with a finished run in runs/streets."""
    folder = tmp_path_factory.mktemp("project")
    roots = Roots(folder / "data")
    experiment = SegmentationPhases(TWO_STAGES, folder / "runs/streets", roots, make_fabric())
    experiment.run(resolve(["source_only", "random_pixels", "ppl"]), [0])
    return folder


@pytest.fixture
def run(project):
    return runs.SegmentationRun(project / "runs" / "streets")


@pytest.fixture
def home(project, monkeypatch):
    """`open_run` looks into the project's folder; its small preset is the smoke preset."""
    monkeypatch.setenv("LABOR_HOME", str(project))
    monkeypatch.setattr(runs, "preset", lambda name: replace(TWO_STAGES, preset=name))
    monkeypatch.delenv("LABOR_RUN", raising=False)
    return project


@pytest.mark.parametrize("stage", [1, 2])
def test_view_is_what_the_stage_saw(run, stage):
    """The network is rebuilt here from the stored files, step by step."""
    view = run.view("ppl", 0, stage, 3)
    known = run.asked_before("ppl", 0, stage).positions[3]  # what the earlier stages asked
    earlier = [run.selection("ppl", 0, one).positions[3] for one in range(1, stage)]
    np.testing.assert_array_equal(known, np.concatenate([[], *earlier]))
    place = run.folder / "seed0"
    net = runs.deeplab.build("small", 14)
    domains = run.domains(0)
    if stage == 1:
        load_weights(net, place / "adversarial" / "segmenter.safetensors")
        estimate_statistics(run.fabric, net, domains.target, run.config)
    else:
        load_weights(net, place / "ppl" / "stage1" / "segmenter.safetensors")
    net.eval()
    transform = joint_transform(False, run.config.data.mean, run.config.data.std)
    image = transform(domains.target.image(3), None)[0][None]
    with torch.no_grad(), run.fabric.autocast():
        logits = net(image)[0]
    probs = upsample(logits, domains.target.size).softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(view.probs, probs, atol=1e-5)
    np.testing.assert_array_equal(view.prediction, probs.argmax(axis=0))
    selection = run.selection("ppl", 0, stage)
    np.testing.assert_array_equal(view.positions, selection.positions[3])
    # the oracle's answers are the truth that the view shows
    np.testing.assert_array_equal(view.answers, view.truth.reshape(-1)[view.positions])
    np.testing.assert_array_equal(view.image, domains.target.image(3).permute(1, 2, 0).numpy())
    assert view.points


def test_looking_writes_nothing_into_a_run(run):
    def contents():
        return {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}

    before = contents()
    adapted = run.at_start("ppl", 0, 1).state_dict()
    run.view("ppl", 0, 2, 0)
    run.predictions("ppl", 0, [0])
    assert contents() == before
    raw = run.warmed_up("adversarial").state_dict()
    assert any(not torch.equal(raw[key], adapted[key]) for key in adapted if "running" in key)


def test_a_run_folder_of_the_first_version_opens_and_goes_on(project, tmp_path):
    """config.json without a version, a command and what identifies the images."""
    folder = shutil.copytree(project / "runs/streets", tmp_path / "old")
    record = json.loads((folder / "config.json").read_text())
    for name in ("version", "command", "images"):
        del record[name]
    record["settings"]["train"]["clip_norm"] = 0.0  # a setting that is gone
    (folder / "config.json").write_text(json.dumps(record))
    run = runs.SegmentationRun(folder)
    assert run.config == TWO_STAGES
    assert run.record["command"] == ""
    kept = (folder / "seed0/ppl/stage2/phase.json").read_bytes()
    roots = Roots(project / "data")
    phases = SegmentationPhases(TWO_STAGES, folder, roots, make_fabric(), "labor run")
    table = phases.run(resolve(["ppl", "adaptsegnet"]), [0])
    assert set(table["method"]) == {"source_only", "adaptsegnet", "ppl", "random_pixels"}
    assert (folder / "seed0/ppl/stage2/phase.json").read_bytes() == kept


def test_what_other_settings_began_is_begun_anew(tmp_path):
    """Nothing is finished here: a checkpoint of other settings must not be continued."""
    record = {"settings": {"points": 40}, "command": "", "versions": {}, "images": {}}
    begun = [tmp_path / name / "source" / "unfinished.pt" for name in ("seed0", "seed0 (copy)")]
    for path in begun:
        path.parent.mkdir(parents=True)
        path.write_text("half")
    for points, kept in ((40, True), (40, True), (12, False)):
        pipeline.write_record(tmp_path, record | {"settings": {"points": points}})
        assert [path.exists() for path in begun] == [kept, True]
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / "phase.json").write_text("{}")
    with pytest.raises(InputError, match=r"settings\.points was 12, is 40; restore them"):
        pipeline.write_record(tmp_path, record)
    with pytest.raises(InputError, match="unit was None, is points"):  # an arena in a run's folder
        pipeline.write_record(tmp_path, record | {"unit": "points"})


def test_images_whose_names_are_no_utf8_are_told_apart():
    first, second = (pipeline.images_digest([Path(n)], sizes=False) for n in ("\udce9", "\udcea"))
    assert first != second


def test_pair_disagrees_where_the_stored_mask_says(run):
    for index in range(len(run.domains(0).target)):
        first, second = run.pair("ppl", 0, 1, index)
        np.testing.assert_allclose(first.sum(axis=0), 1, atol=1e-5)
        disagree = first.argmax(axis=0) != second.argmax(axis=0)
        np.testing.assert_array_equal(disagree, run.masks("ppl", 0, 1)[index])


def test_images_are_scored_with_the_model_before_or_after_a_stage(run):
    after = run.view("ppl", 0, 1, 3, after=True)
    np.testing.assert_array_equal(after.probs, run.view("ppl", 0, 2, 3).probs)
    assert (after.probs != run.view("ppl", 0, 1, 3).probs).any()
    for view, stage in ((run.view("ppl", 0, 1, 3), 1), (after, 2)):
        found = run.image_scores("ppl", 0, stage)
        assert len(found) == len(run.domains(0).target)
        expected = miou_of([(view.truth, view.prediction)])
        assert found[3] == pytest.approx(expected, abs=1.0)  # a batch beside an image


def test_predictions_are_those_that_were_scored(run):
    """IoU of the stored predictions, by hand, is the table's."""
    folder = run.domains(0).evaluation
    predicted = run.predictions("random_pixels", 0, list(range(len(folder))))
    pairs = [(folder.label(i).numpy(), guess) for i, guess in enumerate(predicted)]
    table = run.table
    scored = table[(table["method"] == "random_pixels") & (table["stage"] == 2)]["miou"].item()
    assert miou_of(pairs) == pytest.approx(scored, abs=0.5)  # float32 beside autocast


def test_a_method_without_selector_has_no_mask_and_no_pair(run):
    assert {"loss5", "loss6", "mask_share"} <= set(run.history("ppl", selector=True))
    view = run.view("random_pixels", 0, 1, 0)
    assert view.mask is None
    assert not view.points
    with pytest.raises(InputError, match="'random_pixels' has no pixel selector"):
        run.pair("random_pixels", 0, 1, 0)


def test_errors_and_entropy_by_hand():
    probs = np.zeros((4, 1, 3), np.float32)
    probs[:, 0, 0] = 0.25
    probs[1, 0, 1] = 1
    probs[:, 0, 2] = [0, 0, 0.5, 0.5]
    truth = np.array([[255, 0, 2]], np.uint8)
    view = Scene(image=np.zeros((1, 3, 3), np.uint8), truth=truth, probs=probs)
    np.testing.assert_array_equal(view.prediction, [[0, 1, 2]])
    np.testing.assert_array_equal(view.errors, [[False, True, False]])
    np.testing.assert_allclose(view.entropy, [[1, 0, 0.5]], atol=1e-6)


def test_images_that_are_gone_are_drawn_anew(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LABOR_HOME", str(tmp_path))
    before = run.domains(0).target.image(0)
    run.record["data_root"] = str(tmp_path / "gone")
    elsewhere = runs.SegmentationRun(run.folder)
    elsewhere.record = run.record
    drawn = elsewhere.domains(0).target
    assert tmp_path in drawn.root.parents
    assert torch.equal(drawn.image(0), before)


def test_open_run_trains_small_what_the_streets_lack(home, capsys):
    run = runs.open_run("adabn")
    assert run.folder == home / "runs" / "small"
    assert run.small
    assert run.title("Masks") == "Masks (small run)"
    assert run.methods == ["source_only", "adabn"]
    said = capsys.readouterr().out
    assert "Training adabn at the small preset (runs/streets lacks them" in said
    assert "Opened the small run 'small'" in said
    runs.open_run("adabn")
    assert "Training" not in capsys.readouterr().out


def test_labor_run_decides(home, monkeypatch, capsys):
    assert runs.open_run("ppl", "source_only").folder == home / "runs" / "streets"
    said = "Opened the run 'streets': source_only, ppl, random_pixels; seeds 0."
    assert said in capsys.readouterr().out
    monkeypatch.setenv("LABOR_RUN", "small")
    assert runs.open_run("source_only").small
    monkeypatch.setenv("LABOR_RUN", str(home / "runs" / "streets"))
    run = runs.open_run("source_only")
    assert not run.small
    assert run.asked_methods == ["ppl", "random_pixels"]
    run.table = run.table[(run.table["method"] != "ppl") | (run.table["stage"] == 1)]
    assert run.methods == ["source_only", "random_pixels"], "without its last stage: not finished"
    monkeypatch.setenv("LABOR_RUN", str(home / "nothing"))
    with pytest.raises(InputError, match=r"nothing.*no such file"):
        runs.open_run("source_only")


def test_finished_runs_are_those_with_a_finished_method(home, tmp_path, monkeypatch):
    monkeypatch.setenv("LABOR_HOME", str(tmp_path))
    assert runs.finished_runs() == []
    for name in ("streets", "begun", "damaged"):
        shutil.copytree(home / "runs" / "streets", tmp_path / "runs" / name)
    table = tmp_path / "runs" / "begun" / "results.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    stage = lines[0].split(",").index("stage")
    begun = [line for line in lines if line.split(",")[stage] != "2"]
    table.write_text("\n".join(begun), encoding="utf-8")
    (tmp_path / "runs" / "damaged" / "results.csv").write_text("", encoding="utf-8")
    assert [run.folder.name for run in runs.finished_runs()] == ["streets"]
    monkeypatch.setenv("LABOR_RUN", str(table.parent))
    with pytest.raises(InputError, match=r"LABOR_RUN: .*begun: no method has finished yet"):
        runs.open_run("ppl")
    assert "begun" in repr(runs.SegmentationRun(table.parent))


def test_open_run_of_photographs(home, monkeypatch, capsys):
    """Without photographs a drawn stand-in is made; a finished run is taken where there is one."""
    run = runs.open_run("source_only", preset="camvid")
    assert run.folder == home / "runs" / "small-lite"
    assert run.title("Masks") == "Masks (drawn stand-in)"
    assert "as a drawn stand-in (runs/camvid lacks them; `make camvid`" in capsys.readouterr().out
    shutil.copytree(home / "runs" / "streets", home / "runs" / "camvid")
    run = runs.open_run("source_only", preset="camvid")
    assert run.folder == home / "runs" / "camvid"
    assert run.title("Masks") == "Masks"
    monkeypatch.setenv("LABOR_RUN", "small")
    assert runs.open_run("source_only", preset="camvid").folder.name == "small-lite"
    with pytest.raises(InputError, match="preset 'gta5': no small size"):
        runs.open_run("source_only", preset="gta5")
    with pytest.raises(InputError, match="method 'pp' is unknown"):
        runs.open_run("pp")


def test_the_small_run_of_photographs_is_on_the_photographs(home, tmp_path, monkeypatch):
    monkeypatch.setenv("LABOR_HOME", str(tmp_path))
    (tmp_path / "data" / "camvid" / "train").mkdir(parents=True)
    config, roots = runs._small("camvid")
    assert config.preset == "small-camvid"
    assert roots.target == tmp_path / "data" / "camvid"


def test_images_are_those_that_were_scored_on(run):
    """Also where a split that was not there then is there now."""
    run.record = run.record | {"scored_on": "val"}
    assert run.domains(0).evaluation.split == "val"


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
        settings[shift] = config = changed(SHIFTS[shift], training=few, few=(3,))
        out = home / "runs" / "family" / shift
        phases = ClassificationPhases(config, Where(), out, fabric)
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
    run = runs.open_shift("fonts", "source_only")
    assert not run.small
    assert run.title("Accuracy") == "Accuracy"
    assert run.config.training.steps == 6
    assert run.seeds == [0, 1]
    assert runs.open_shift("fonts", "source_only", "finetune").seeds == [0], (
        "which both have finished"
    )


@pytest.mark.parametrize("why", ["method", "number", "seed", "shift", "LABOR_RUN"])
def test_a_small_run_is_made_where_none_fits_and_says_so(
    folders, why, monkeypatch, tmp_path, capsys
):
    assert runs.finished_shift("fonts", "source_only", "finetune") is not None
    assert runs.finished_shift("nothing") is None
    if why == "LABOR_RUN":
        monkeypatch.setenv("LABOR_RUN", "small")
        monkeypatch.setenv("LABOR_HOME", str(tmp_path))
        run = runs.open_shift("fonts", "source_only", "finetune")
        assert run.small
        assert run.title("Accuracy") == "Accuracy (small run)"
        assert "small run 'fonts'" in capsys.readouterr().out
        assert run.methods == ["source_only", "finetune"]
        assert run.config.training.steps == 2, "a third of the steps"
        assert len(run.history("finetune", n=3)) == 1
    else:
        asked = {"method": "joint", "shift": "finetune"}.get(why, "finetune")
        more = {"number": {"few": (1,)}, "seed": {"seed": 1}}.get(why, {})
        assert runs.finished_shift("styles" if why == "shift" else "fonts", asked, **more) is None


def test_networks_score_what_the_table_says(folders):
    run = runs.open_shift("fonts", "source_only", "finetune", "dann")
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
    run = runs.open_shift("styles", "source_only")
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
        (lambda run: runs.open_shift("digits"), "unknown shift 'digits': choose one of textured"),
        (lambda run: runs.open_shift("fonts", "sagnet"), "'sagnet' does not apply to 'fonts'"),
        (lambda run: runs.open_shift("ccsa"), "shift 'ccsa' needs --root"),
        (lambda run: runs.ClassificationRun(run.folder / "gone"), "no such file"),
    ],
)
def test_what_is_not_there_is_said(folders, ask, message):
    run = runs.open_shift("fonts", "source_only", "finetune")
    with pytest.raises(InputError, match=message):
        ask(run)
