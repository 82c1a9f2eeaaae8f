"""The command line as a user meets it: real processes, bad input, kills, resumes."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import accepted, assert_same_run, refused
from filelock import FileLock
from PIL import Image
from safetensors.torch import load_file, save_file
from test_segmentation import write as write_dataset

from labor_lib import config as presets
from labor_lib.drawn.streets import write_streets
from labor_lib.lab import segmentation
from labor_lib.lab.segmentation import Roots, SegmentationPhases
from labor_lib.methods.registry import METHODS

TIMES = ["train_seconds", "select_seconds"]


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "labor_lib", *map(str, arguments)]


def labor(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300)


def smoke(data: Path, out: Path, *more) -> tuple:
    """The command that runs methods of the smoke preset; more: its further options."""
    return ("run", "--preset", "smoke", "--data", data, "--out", out, *more)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def drawn_target(tmp_path_factory) -> Path:
    """A target in Cityscapes' layout that is not the preset's own."""
    root, size = tmp_path_factory.mktemp("target") / "scenes", presets.SMOKE.data.drawn_size
    counts = {"source": 2, "train": 3, "val": 2, "test": 2}
    return write_streets(root, size=size, progress=False, **counts)[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data) -> Path:
    """A run of two methods that nothing interrupted."""
    out = tmp_path_factory.mktemp("finished") / "run"
    done = labor(*smoke(data, out, "--methods", "iast,ppl"))
    assert done.returncode == 0, done.stderr
    assert "LabOR PPL" in done.stdout
    return out


@pytest.fixture
def out(finished, tmp_path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def assert_same_scores(one: Path, other: Path) -> None:
    """Every number is the same but the times."""
    assert_same_run(one, other)
    tables = [pd.read_csv(out / "results.csv").drop(columns=TIMES) for out in (one, other)]
    pd.testing.assert_frame_equal(*tables)


def test_run_leaves_what_the_readme_promises(finished):
    table = pd.read_csv(finished / "results.csv")
    wanted = "method seed scene_seed stage budget precision miou pixels_per_image clicks_per_image"
    assert {*wanted.split(), *TIMES, "iou_traffic light"} <= set(table.columns)
    assert sorted(table["method"].unique()) == ["iast", "ppl"]
    assert list(table[table["method"] == "ppl"]["stage"]) == [1, 2, 3]
    stage = finished / "seed0" / "ppl" / "stage2"
    weights = {f"{name}.safetensors" for name in ("segmenter", "discriminator0", "selector")}
    tables = {"selector_trace.csv", "masks.npz", "selection.npz", "cost.csv", "trace.csv"}
    assert weights | tables | {"asked.json", "phase.json", "confusions.npz"} == {
        path.name for path in stage.iterdir()
    }
    record = json.loads((finished / "config.json").read_text())
    assert record["versions"]["torch"] == torch.__version__
    assert "LabOR PPL" in (finished / "report.html").read_text()
    assert not list(finished.rglob("*.part"))


def test_ledger_counts_what_was_asked(finished):
    table = pd.read_csv(finished / "results.csv").query("method == 'ppl'")
    asked = 0.0
    for row in table.itertuples():
        stage = finished / "seed0" / "ppl" / f"stage{row.stage}"
        counts = np.load(stage / "selection.npz")["counts"]
        assert counts.max() <= 40 // 3
        asked += counts.mean()
        assert row.pixels_per_image == pytest.approx(asked)
    assert pd.read_csv(stage / "cost.csv")["pixels"].mean() == pytest.approx(counts.mean())


@pytest.mark.parametrize("moment", ["adversarial/unfinished.pt", "ppl/stage2"])
def test_killed_run_goes_on_to_the_same_numbers(tmp_path, data, finished, moment):
    out = tmp_path / "run"
    arguments = smoke(data, out, "--methods", "iast,ppl")
    process = subprocess.Popen(command(*arguments), stderr=subprocess.DEVNULL)
    awaited = out / "seed0" / moment
    started = time.monotonic()
    while not awaited.exists():
        assert process.poll() is None, f"finished before {moment} appeared"
        assert time.monotonic() - started < 200
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "seed0" / "ppl" / "stage3" / "phase.json").exists()
    again = labor(*arguments)
    assert again.returncode == 0, again.stderr
    assert_same_scores(finished, out)


def test_more_methods_extend_a_run_and_change_no_number(tmp_path, data, out):
    """What is finished stays as it is; a method has the same numbers alone."""
    before = {path: path.stat().st_mtime_ns for path in out.rglob("phase.json")}
    accepted(*smoke(data, out, "--methods", "adabn,iast"))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    methods = set(pd.read_csv(out / "results.csv")["method"])
    assert methods == {"source_only", "adabn", "iast", "ppl"}
    accepted(*smoke(data, tmp_path / "alone", "--methods", "iast"))
    assert_same_run(tmp_path / "alone/seed0/iast", out / "seed0/iast")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "nowhere"), "unknown preset 'nowhere': choose one of streets"),
        (("--methods", "spl,magic"), "method 'magic' is unknown: choose from source_only"),
        (("--device", "tpu"), "unknown device 'tpu': choose one of auto, cpu"),
        (("--precision", "half"), "unknown precision 'half'"),
        (("--seeds", "one"), "--seeds 'one': give numbers such as 0"),
        (("--seeds", "4-0"), "--seeds '4-0'"),
        (("--stages", "0"), "--stages 0: give 1 to 1000"),
        (("--budget", "2.2"), "--budget 2.2: give a share"),
        (("--points", "2"), "--points 2: give at least one for each"),
        (("--points", "1000000000"), "at most the 2048 pixels of an image"),
        (("--preset", "gta5"), "preset 'gta5' needs --source-root"),
        (("--preset", "camvid"), "preset 'camvid' needs --target-root"),
        (("--target-root", "no/such/folder"), "no/such/folder"),
        (("--data", Path(__file__) / "below"), "test_cli.py"),
        (("--out", Path(__file__) / "below"), "test_cli.py"),
    ],
)
def test_bad_options_write_nothing(capsys, tmp_path, data, arguments, message):
    assert message in refused(capsys, *smoke(data, tmp_path / "out", *arguments))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["leftImg8bit", "gtFine"])
def test_bad_files_stop_the_run_before_it_starts(capsys, tmp_path, data, drawn_target, kind):
    target = shutil.copytree(drawn_target, tmp_path / "target")
    victim = sorted(target.glob(f"{kind}/train/*/*.png"))[-1]
    victim.write_bytes(victim.read_bytes()[:-40])
    options = ("--methods", "ppl", "--target-root", target)
    assert victim.name in refused(capsys, *smoke(data, tmp_path / "out", *options))
    assert not (tmp_path / "out").exists()


def test_target_labels_are_not_needed_before_somebody_asks(capsys, tmp_path, data, drawn_target):
    """All training labels of the target are gone: UDA runs through, asking methods do not start."""
    target, out = shutil.copytree(drawn_target, tmp_path / "target"), tmp_path / "out"
    shutil.rmtree(target / "gtFine" / "train")
    asking = smoke(data, out, "--target-root", target, "--methods", "random_points")
    assert "gtFine" in refused(capsys, *asking)
    assert not out.exists(), "the warm-up did not begin"
    accepted(*smoke(data, out, "--target-root", target, "--methods", "adabn,iast"))
    assert "gtFine" in refused(capsys, *asking)
    assert set(pd.read_csv(out / "results.csv")["method"]) == {"source_only", "adabn", "iast"}


STAGE = Path("seed0/iast/stage2")


def another_network(out: Path) -> None:
    shutil.rmtree(out / "seed0/iast/stage3")
    shutil.copy(out / STAGE / "discriminator0.safetensors", out / STAGE / "segmenter.safetensors")


def diverged(out: Path) -> None:
    shutil.rmtree(out / "seed0/iast/stage3")
    path = out / STAGE / "segmenter.safetensors"
    save_file({key: value * float("nan") for key, value in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (None, ("--points", "12"), "settings.budget.points was 40, is 12; restore them, or pass"),
        (lambda out: (out / "config.json").unlink(), (), "config.json: missing, but"),
        (lambda out: (out / "config.json").write_text("[]"), (), "json: not the settings of a run"),
        (lambda out: (out / STAGE / "phase.json").write_text(""), (), "phase.json: not JSON"),
        (another_network, (), "segmenter.safetensors: checkpoint of another architecture"),
        (diverged, (), "stage2/segmenter.safetensors: not finite"),
        (lambda out: FileLock(out / ".lock").acquire(), (), "another run is using this folder"),
    ],
)
def test_a_run_folder_that_does_not_fit_is_refused(capsys, data, out, spoil, options, message):
    kept = spoil(out) if spoil else None  # a lock, as long as it is held
    assert message in refused(capsys, *smoke(data, out, "--methods", "iast", *options))
    del kept


def test_leftovers_of_a_killed_run_go(data, out):
    unfinished = out / "seed0" / "iast" / "stage3"
    (unfinished / "phase.json").unlink()
    leftovers = [unfinished / ".segmenter.safetensors.abc.part", out / ".results.csv.abc.part"]
    mine = [out / "seed0" / ".photo.part", out / ".photo.part", out / "seed0 (copy)" / ".a.part"]
    (out / "seed0 (copy)").mkdir()
    for path in leftovers + mine:
        path.write_text("half")
    accepted(*smoke(data, out, "--methods", "iast"))
    assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in mine), "a user's own files"


def test_a_kill_in_a_stages_training_asks_nobody_twice(monkeypatch, data, finished, out):
    stage = out / "seed0" / "ppl" / "stage2"
    asked = (stage / "selection.npz").read_bytes()
    for name in ("phase.json", "segmenter.safetensors", "trace.csv"):
        (stage / name).unlink()  # as a kill in the training leaves it
    shutil.rmtree(out / "seed0" / "ppl" / "stage3")
    questions = []
    ask = segmentation.Oracle.ask

    def counted(self, one, name="", **options):
        questions.append(name)
        return ask(self, one, name, **options)

    monkeypatch.setattr(segmentation.Oracle, "ask", counted)
    accepted(*smoke(data, out, "--methods", "ppl"))
    assert (stage / "selection.npz").read_bytes() == asked
    assert questions == ["ppl/seed0/stage3"]
    assert_same_scores(finished, out)


def test_other_images_are_refused_and_another_place_is_not(capsys, tmp_path, data, finished):
    scenes = next(data.rglob("scenes0"))
    moved = shutil.copytree(scenes, tmp_path / "moved")
    out = tmp_path / "run"
    roots = ("--source-root", moved / "gta5", "--target-root", moved / "cityscapes")
    begin = ("run", "--preset", "smoke", "--methods", "source_only", "--out", out)
    accepted(*begin, *roots)
    again = moved.rename(tmp_path / "again")
    roots = ("--source-root", again / "gta5", "--target-root", again / "cityscapes")
    accepted(*begin, *roots)
    image = next((again / "gta5/images").glob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    line = refused(capsys, *begin, *roots)
    assert "images.seed0.source was 12 images" in line


def test_output_that_goes_nowhere_or_cannot_be_written_is_no_error(data, finished):
    options = command(*smoke(data, finished, "--methods", "iast"))
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(options, capture_output=True, env=plain, timeout=300)
    assert done.returncode == 0, done.stderr
    assert b"report:" in done.stdout
    reader, writer = os.pipe()
    os.close(reader)  # `| head` that has gone
    done = subprocess.run(options, stdout=writer, stderr=subprocess.PIPE, timeout=300)
    os.close(writer)
    assert b"Traceback" not in done.stderr


def test_full_disk_keeps_earlier_results(capsys, monkeypatch, data, out):
    before = (out / "results.csv").read_bytes()
    real = os.fsync

    def full(descriptor):
        if (out / "seed0" / "random_points").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor)

    monkeypatch.setattr("labor_lib.runtime.os.fsync", full)
    arguments = smoke(data, out, "--methods", "random_points")
    line = refused(capsys, *arguments)
    assert "No space left on device; make room" in line
    assert (out / "results.csv").read_bytes() == before
    assert not list(out.rglob("*.part"))
    monkeypatch.undo()
    accepted(*arguments)


@pytest.mark.parametrize("name", ["gta5", "synthia"])
def test_paper_presets_take_a_step(fabric, tmp_path, name):
    """ResNet-101, two levels, the paper's optimiser and class set, at 64 x 128."""
    size = (64, 128)
    target, source = tmp_path / "target", tmp_path / "source"
    write_dataset(source, name)
    for split in ("train", "val"):
        write_dataset(target, "cityscapes", split)
    config = presets.changed(
        presets.preset(name),
        data={"source_size": size, "target_size": size, "workers": 0},
        train={"imagenet": False, "adversarial_steps": 2, "stage_steps": 1},
        selector={"steps": 1},
        budget={"stages": 1},
    )
    roots = Roots(tmp_path, source, target)
    experiment = SegmentationPhases(config, tmp_path / "out", roots, fabric)
    table = experiment.run([METHODS["ppl"]], [0])
    assert np.isfinite(table["miou"]).all()
    assert ("miou_13" in table.columns) == (name == "synthia")
    classes = {"gta5": 19, "synthia": 16}[name]
    assert sum(column.startswith("iou_") for column in table.columns) == classes


def test_camvid_preset_on_real_photographs(fabric, tmp_path, shared):
    """Every photograph is read; training is a few steps at a quarter of the preset's size."""
    smoke, size = presets.SMOKE, (45, 60)
    sizes = {"source_size": size, "target_size": size, "drawn_size": size, "drawn_source": 8}
    config = presets.changed(
        presets.CAMVID, data=sizes, train=smoke.train, selector=smoke.selector, budget={"stages": 1}
    )
    roots = Roots(tmp_path, None, shared / "data" / "camvid")
    experiment = SegmentationPhases(config, tmp_path / "out", roots, fabric)
    table = experiment.run([METHODS["ppl"]], [0])
    assert len(experiment.domains(0).target) == 367
    assert len(experiment.domains(0).evaluation) == 101  # val: the test split is not there
    assert [c for c in table.columns if c.startswith("iou_")][-1] == "iou_bicyclist"
    # a point at 45 x 60 stands for 64 pixels of a 360 x 480 photograph
    points = pd.read_csv(tmp_path / "out/seed0/ppl/stage1/cost.csv")["pixels"] / 64
    assert (points <= 40).all()
    assert points.sum() > 0
    assert (points == points.round()).all()


def test_the_commands_that_made_a_run_are_kept(data, out):
    def made() -> list[str]:
        return json.loads((out / "config.json").read_text())["command"].split(" && ")

    (first,) = made()
    accepted(*smoke(data, out, "--methods", "iast"))  # nothing is missing
    assert made() == [first]
    for _ in range(2):
        accepted(*smoke(data, out, "--methods", "source_only"))
        shutil.rmtree(out / "seed0/source_only")
    assert made()[0] == first
    assert len(made()) == 2
    assert made()[1].endswith("--methods source_only")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("positions", lambda a: a + 100_000),
        ("counts", lambda a: a + 5),
        ("counts", lambda a: a[:4]),
        ("answers", lambda a: a[:3]),
        ("size", lambda a: 2 * a),  # of another preset
        ("size", lambda a: a[0]),
    ],
)
def test_a_selection_that_does_not_fit_is_named(capsys, data, out, name, change):
    shutil.rmtree(out / "seed0/ppl/stage3")
    path = out / "seed0/ppl/stage1/selection.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **arrays | {name: change(arrays[name])})
    line = refused(capsys, *smoke(data, out, "--methods", "ppl"))
    assert "selection.npz" in line
    assert "run again" in line
