"""A project: images of one's own, answers of people, predictions; killed and repeated."""

import re
import shutil
import sqlite3
import sys
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import assert_same_run
from PIL import Image
from scipy import stats

from labor_lib.__main__ import main
from labor_lib.annotation.store import Store
from labor_lib.config import SMOKE
from labor_lib.drawn.streets import draw_scene
from labor_lib.errors import InputError
from labor_lib.lab import project, segmentation
from labor_lib.lab.runs import SegmentationRun
from labor_lib.labels import STREETS14
from labor_lib.nets.deeplab import upsample
from labor_lib.runtime import load_weights

SIZES = {"street.png": (40, 80), "a b's <i>&.jpg": (60, 90), "ümlaut #2.png": (64, 128)}
TINY = replace(
    SMOKE,
    data=replace(SMOKE.data, drawn_source=4, drawn_train=0, drawn_val=0, drawn_test=0),
    train=replace(SMOKE.train, source_steps=2, adversarial_steps=2, stage_steps=2),
    budget=replace(SMOKE.budget, points=20, stages=2),
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(project, "BASE", TINY)


@pytest.fixture
def images(tmp_path):
    """Three photographs, of sizes of their own, and a note."""
    root = tmp_path / "my images"
    root.mkdir()
    for number, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(draw_scene("camera", (0, number), size)[0]).save(root / name)
    (root / "note.txt").write_text("mine")
    return root


def labor(capsys, *arguments):
    """Exit code, standard output, the lines of standard error that are the program's."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("labor: ")]
    assert len(lines) == (code != 0), err
    return code, out, "".join(lines)


def begin(folder, images, *more):
    return ("start", folder, "--images", images, "--network", "small", "--device", "cpu", *more)


def answer(folder, annotator="ann", count=None):
    """Answer open questions with what a rule says of the place: above sky (10), below road (0)."""
    store = Store(folder / "store.sqlite")
    for _ in range(count or 10**6):
        question = store.next(annotator)
        if question is None:
            break
        row = question.positions[0] // question.size[1]
        store.answer(question.id, annotator, 10 if row < question.size[0] // 2 else 0, 1.5)
    store.close()


def test_a_whole_project(tmp_path, capsys, images):
    folder = tmp_path / "project"
    code, out, _ = labor(capsys, *begin(folder, images))
    assert code == 0
    assert "3 images of 40 x 80 to 64 x 128 pixels (height x width), seen by the network at" in out
    assert "left out, because not PNG or JPEG: note.txt" in out
    assert "at most 10 points an image in each of 2 stages, so 30 questions a stage" in out
    asked = int(re.search(r"stage 1 of 2: (\d+) questions, 0 answered, \1 open", out)[1])
    assert f"answer the {asked} open questions" in out
    code, _, line = labor(capsys, "next", folder)
    assert (code, f"{asked} of {asked} questions of stage 1 are open" in line) == (3, True)

    answer(folder, "ann", count=2)
    answer(folder, "ben")
    code, out, _ = labor(capsys, "status", folder)
    assert f"{asked} questions, {asked} answered (ann 2, ben {asked - 2}), 0 open" in out
    assert out.rstrip().endswith(f"Next: python -m labor_lib next {folder}")
    code, out, _ = labor(capsys, "next", folder)
    assert (code, "stage 2 of 2:" in out) == (0, True)
    assert "After stage 1 the model agrees with" in out
    assert not (folder / "predictions.html").exists()
    answer(folder)
    code, out, _ = labor(capsys, "next", folder)
    assert (code, "Finished: " in out) == (0, True)
    assert labor(capsys, "next", folder) == (0, out, "")  # nothing is left to do
    with pytest.raises(InputError, match=r"has no scores; `python -m labor_lib status"):
        SegmentationRun(folder)

    # what people said, but for what was kept aside, is what was trained on
    store = Store(folder / "store.sqlite")
    table = store.answers("ppl/seed0/stage1")
    assert 0 < table["held_out"].sum() == round(0.1 * len(table))
    with np.load(folder / "seed0/ppl/stage1/selection.npz") as file:
        assert sorted(file["answers"]) == sorted(table["label"].where(~table["held_out"], 255))
    agreement(folder, store, out)
    predictions(folder, images)


def agreement(folder, store, out):
    """Computed here from the network's file and the table of answers."""
    opened = project.Project.open(folder)
    height, width = opened.config.data.target_size
    labels = network(folder, opened)
    held = store.answers().query("held_out")
    same = sum(
        labels(f"{row.image}", (height, width))[row.row, row.column] == row.label
        for row in held.itertuples()
    )
    low, high = stats.binomtest(same, len(held)).proportion_ci(method="wilson")
    assert f"agrees with {same} of {len(held)} answers" in out
    assert f"(95 % interval {100 * low:.0f} to {100 * high:.0f} %)" in out
    results = pd.read_csv(folder / "results.csv")
    assert results["held_out"].iloc[-1] == len(held)
    assert results["void_share"].isna().all(), "what is kept aside is not void"
    assert "miou" not in results


def network(folder, opened):
    """A function from an image's name and a size to the class ids there."""
    net = project.deeplab.build("small", len(STREETS14)).eval()
    load_weights(net, folder / "seed0/ppl/stage2/segmenter.safetensors")
    small = segmentation.SegmentationFolder(
        opened.images, "images", "train", STREETS14, opened.config.data.target_size, labels=False
    )

    def labels(name, size):
        image = (small.image(small.names.index(name)).float() / 255 - 0.45) / 0.25
        with torch.no_grad():
            return upsample(net(image[None])[0], size)[0].argmax(dim=0).numpy()

    return labels


def predictions(folder, images):
    labels = network(folder, project.Project.open(folder))
    for name, size in SIZES.items():
        stem = name.rpartition(".")[0]
        with Image.open(folder / "predictions" / f"{stem}.png") as picture:
            assert (picture.mode, picture.size) == ("P", size[::-1])
            assert picture.getpalette()[: 3 * 14] == STREETS14.palette.reshape(-1).tolist()
            same = np.array(picture) == labels(stem, size)
        assert same.mean() > 0.99  # bf16 differs

    page = (folder / "predictions.html").read_text(encoding="utf-8")
    links = re.findall('(?:src|href)="([^"]+)"', page)
    assert len(links) == 2 * len(SIZES)
    assert all((folder / unquote(link)).is_file() for link in links)
    assert "<i>" not in page


def test_killed_between_all_steps(tmp_path, capsys, images, monkeypatch):
    """Killed while it trains, while it saves what it chose, while it writes predictions."""
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    labor(capsys, *begin(whole, images))
    answer(whole)
    labor(capsys, "next", whole)
    answer(whole)
    assert labor(capsys, "next", whole)[0] == 0

    def killed(where, name, command):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, lambda *_, **__: sys.exit("killed"))
            with pytest.raises(SystemExit, match="killed"):
                main([str(one) for one in command])
        capsys.readouterr()

    killed(project.Store, "create", begin(folder, images))
    killed(segmentation, "write_streets", begin(folder, images))
    killed(segmentation, "save_nets", begin(folder, images))
    killed(segmentation, "select", begin(folder, images))
    killed(project.Store, "ask", begin(folder, images))
    assert labor(capsys, *begin(folder, images))[0] == 0
    answer(folder, count=3)
    code, out, _ = labor(capsys, *begin(folder, images))  # again, while questions are open
    assert (code, "3 answered" in out) == (0, True)
    answer(folder)
    killed(segmentation, "train_segmenter", ("next", folder))
    assert labor(capsys, "next", folder)[0] == 0
    answer(folder)
    killed(project, "_overlay", ("next", folder))
    assert "Next: python -m labor_lib next" in labor(capsys, "status", folder)[1]
    assert labor(capsys, "next", folder)[0] == 0
    for part in ("seed0", "predictions"):
        assert_same_run(whole / part, folder / part)


def test_a_source_and_classes_of_ones_own(tmp_path, capsys, images):
    source = tmp_path / "labelled"
    for name in ("images", "labels"):
        (source / name).mkdir(parents=True)
    for number in range(2):
        image, label = draw_scene("game", (0, number), (24, 32))
        Image.fromarray(image).save(source / "images" / f"{number}.jpg")
        Image.fromarray(label).save(source / "labels" / f"{number}.png")
    classes = tmp_path / "classes.csv"
    classes.write_text(
        "Name;Color;Source\nsky;#0000ff;23\nground;;7+8\n\nsnow;#ffffff;\n", "utf-8-sig"
    )
    more = ("--source", source, "--source-layout", "pairs", "--classes", classes)
    code, out, _ = labor(capsys, *begin(tmp_path / "project", images, *more))
    assert (code, "3 classes" in out) == (0, True)
    opened = project.Project.open(tmp_path / "project")
    assert opened.config.data.source_size == (40, 52)  # 3:4, about 32 x 64 pixels
    store = Store(opened.store_path)
    assert store.classes == ("sky", "ground", "snow")
    assert store.colours[[0, 2]].tolist() == [[0, 0, 255], [255, 255, 255]]
    folder = segmentation.SegmentationFolder(
        source, "pairs", "train", project.classes_of(opened.config.data)
    )
    label = np.array(Image.open(source / "labels" / "0.png"))
    expected = np.select([label == 23, (label == 7) | (label == 8)], [0, 1], 255)
    np.testing.assert_array_equal(folder.label(0), expected)


def test_classes_by_name(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text("name,source\nplants,vegetation + terrain\nsign,traffic sign\n")
    rows = project.read_classes(path, "gta5")
    assert [(name, ids) for name, _, ids in rows] == [("plants", (21, 22)), ("sign", (20,))]
    path.write_text("name\nsoil\nplant\n")  # ids count from 0
    assert [ids for _, _, ids in project.read_classes(path, "pairs")] == [(0,), (1,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'name'"),
        ("name,colour\na,red\nb,\n", "colour 'red' of a; give one such as #8040ff"),
        ("name,source\na,1\na,2\n", "'a' of a stands in a too"),
        ("name,source\na,1\nb,1+2\n", "'1' of b stands in a too"),
        ("name,source\na,rod\nb,1\n", "source 'rod': give an id of the label files, or a name"),
        ("name,source\na,1\n", "1 classes; give 2 to 253"),
        ("name,source\na,\nb,\n", "the column 'source' is empty"),
    ],
)
def test_bad_classes(tmp_path, text, message):
    path = tmp_path / "classes.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        project.read_classes(path, "gta5")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--source", "here"), "--source here: say with --source-layout which it is: gta5,"),
        (("--source", "here", "--source-layout", "pairs"), "say with --classes FILE what its ids"),
        (
            ("--source", "here", "--source-layout", "gta5"),
            "holds no .png files; give a gta5 folder",
        ),
        (("--classes", "nine"), "--classes nine: cannot be read"),
        (("--method", "iast"), "--method iast: asks nobody; choose random_points"),
        (("--method", "ppl_teacher_averaged"), "asks nobody"),
        (("--points", "1"), "--points 1: give at least one for each of the 2"),
        (("--size", "100"), "--size 100: give HEIGHTxWIDTH"),
        (("--answers", "0"), "--warm-up, --steps, --answers: give numbers from 1 on"),
        (("--network", "vgg"), "unknown network 'vgg'"),
    ],
)
def test_bad_settings(tmp_path, capsys, images, more, message):
    code, _, line = labor(capsys, *begin(tmp_path / "project", images, *more))
    assert (code, message in line) == (2, True), line
    assert not (tmp_path / "project").exists()


def test_bad_folders(tmp_path, capsys, images):
    folder = tmp_path / "project"
    for command in ("next", "status"):
        code, _, line = labor(capsys, command, folder)
        assert (code, "no project; begin one with `python -m labor_lib start" in line) == (2, True)
    assert "--images is missing" in labor(capsys, "start", folder)[2]
    assert f"give the folder in which they lie, such as {images}" in labor(
        capsys, *begin(folder, tmp_path)
    )[2]  # fmt: skip
    labor(capsys, *begin(folder, images, "--warm-up", "3", "--steps", "1"))
    line = labor(capsys, *begin(folder, images, "--warm-up", "3", "--steps", "2"))[2]
    assert "a project with other settings: settings.train.stage_steps was 1, is 2" in line
    answer(folder)

    shutil.copy(images / "street.png", images / "new.png")
    assert (
        "image 'new' is new since the project began (1 such in all)"
        in (labor(capsys, "next", folder)[2])
    )
    (images / "new.png").unlink()
    photograph = (images / "street.png").read_bytes()
    (images / "street.png").unlink()
    assert "image 'street' is gone since the project began" in labor(capsys, "next", folder)[2]
    (images / "street.png").write_bytes((images / "ümlaut #2.png").read_bytes())
    assert "street" in labor(capsys, "next", folder)[2]
    (images / "street.png").write_bytes(photograph)
    moved = images.rename(tmp_path / "moved")
    assert f"{images}: holds no .png or" in labor(capsys, "next", folder)[2]
    same = begin(folder, moved, "--warm-up", "3", "--steps", "1")
    assert labor(capsys, *same)[0] == 0
    with sqlite3.connect(folder / "store.sqlite") as db:
        assert {str(moved) in path for (path,) in db.execute("SELECT path FROM image")} == {True}
    assert "holds a run; choose another folder" in labor(
        capsys, *begin(unnamed(folder), moved)
    )[2]  # fmt: skip


def unnamed(folder):
    (folder / "project.json").unlink()
    return folder


def test_sizes():
    assert project.network_size([(720, 960)], 180 * 240) == (180, 240)
    assert project.network_size([(1080, 1920), (1080, 1920), (10, 10)], 180 * 240) == (156, 276)
    assert project.network_size([(4000, 3000)], 180 * 240) == (240, 180)
    assert project.network_size([(10, 9000)], 180 * 240) == (104, 416)


def test_classes_at_the_photographs_size():
    logits = torch.randn(5, 7, 9)
    expected = upsample(logits[None], (50, 40))[0].argmax(dim=0)
    assert torch.equal(project.most_probable(logits, (50, 40)).long(), expected)
