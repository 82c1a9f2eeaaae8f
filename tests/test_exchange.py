"""Questions out to other tools, answers in: round trips, files as the tools write them, errors."""

import json
import xml.etree.ElementTree as xml
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import accepted, refused
from PIL import Image

from labor_lib.annotation.exchange import CANNOT_TELL, FORMATS, export_questions, import_answers
from labor_lib.annotation.store import Store
from labor_lib.errors import InputError
from labor_lib.selection.record import Selection

CLASSES = ("road", 'it\'s 5 % "grey" <b>&amp;', "car")
NAMES = ('a "quoted" <b>&amp; name', "b")
SIZE = (10, 20)  # the network's
needs_sdk = pytest.mark.skipif(
    not find_spec("label_studio_sdk"), reason="needs label-studio-sdk (the extra 'exchange')"
)


def make(folder, native=(20, 40), points=((), ()), segments=None, size=SIZE) -> Store:
    """A store that asks points, (row, column) each, of two images, and segments of the first."""
    paths = [folder / "it's 50 % & more/a 1#.png", folder / "b.png"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", native[::-1]).save(path)
    store = Store.create(folder / "store.sqlite", CLASSES, np.eye(3, dtype=int) * 255)
    store.add_images(NAMES, paths)
    flat = [np.array([r * size[1] + c for r, c in one], np.int64) for one in points]
    guesses = [np.arange(len(one)) % 3 for one in flat]
    store.ask(Selection(size, flat), "ppl/seed0/stage1", images=NAMES, guesses=guesses)
    if segments is not None:
        asked = Selection(size, [np.flatnonzero(segments), np.empty(0, np.int64)])
        store.ask(asked, "spl/seed0/stage1", kind="segment", images=NAMES)
    return store


def given(store) -> dict:
    """{question: {position: class}} of all answers."""
    found: dict = {}
    for row in store.answers().itertuples():
        found.setdefault(row.question, {}).update(dict.fromkeys(row.positions.tolist(), row.label))
    return found


def answer(format: str, path, labels: dict[int, str], keep_numbers=True) -> None:
    """What a person does in a tool to a file of questions. labels: of each question."""
    if format == "cvat":
        tree = xml.parse(path)
        for shape in [*tree.iter("points"), *tree.iter("mask")]:
            number = shape.find("attribute[@name='question']")
            shape.set("label", labels[int(number.text)])
            if not keep_numbers:
                number.text = None
        tree.write(path)
        return
    told = json.loads(path.read_text(encoding="utf-8"))
    if format == "coco":
        numbers = {one["name"]: one["id"] for one in told["categories"]}
        for one in told["annotations"]:
            one["category_id"] = numbers[labels[one["id"]]]
            one["id"] += 0 if keep_numbers else 1000
    else:
        for task in told:
            (suggested,) = task.pop("predictions")
            for region in suggested["result"]:
                number = int(region["id"].removeprefix("question-"))
                region["value"][region["type"]] = [labels[number]]
                region["image_rotation"] = 90  # looked at from the side
                if not keep_numbers:
                    region["id"] = "Dx_aB91ISN"
            person = {"id": 7, "email": "ann@example.org"}
            one = {"completed_by": person, "lead_time": 6.0, "result": suggested["result"]}
            skipped = {"completed_by": person, "was_cancelled": True, "result": [{}]}
            task["annotations"] = [one, skipped]
    path.write_text(json.dumps(told), encoding="utf-8")


PIECES = np.zeros(SIZE, bool)
PIECES[1:4, 2:6] = PIECES[6, 19] = PIECES[8:, :3] = True
PIECES[9, 2] = False
POINTS = (((0, 0), (2, 3), (2, 4), (9, 19)), ((5, 5),))
BRUSH = ("label-studio", "segment")
ROUNDS = [
    pytest.param(format, kind, marks=needs_sdk if (format, kind) == BRUSH else ())
    for format in FORMATS
    for kind in ("point", "segment")
]


@pytest.mark.parametrize("keep_numbers", [True, False])
@pytest.mark.parametrize("native", [(20, 40), (10, 20), (33, 47), (8, 15)])
@pytest.mark.parametrize(("format", "kind"), ROUNDS)
def test_a_round_trip_loses_nothing(format, kind, native, keep_numbers, tmp_path):
    segments = PIECES if kind == "segment" else None
    store = make(tmp_path, native, POINTS if kind == "point" else ((), ()), segments)
    asked = {one.id: one for one in store.questions()}
    assert len(asked) == {"point": 5, "segment": 3}[kind]
    out = tmp_path / "questions"
    count, files = export_questions(store, format, out)
    assert (count, files[0]) == (len(asked), out)
    if format != "label-studio":  # whose suggestions are no answers
        assert import_answers(store, format, out) == (0, 0)
    labels = {number: (*CLASSES, CANNOT_TELL)[number % 4] for number in asked}
    answer(format, out, labels, keep_numbers)
    assert import_answers(store, format, out) == (len(asked), 0)
    assert import_answers(store, format, out) == (len(asked), 0)  # replaces, never doubles
    assert given(store) == {
        number: dict.fromkeys(one.positions.tolist(), (0, 1, 2, 255)[number % 4])
        for number, one in asked.items()
    }
    table = store.answers()
    assert not table["question"].duplicated().any()
    if format == "label-studio":
        assert set(table["annotator"]) == {"ann@example.org"}
        assert table.groupby("image")["seconds"].sum().eq(6).all()
    else:
        assert set(table["annotator"]) == {format}
        assert table["seconds"].isna().all()
    with pytest.raises(InputError, match="no question is open"):
        export_questions(store, format, out)


# ------------------------------------------------- files as the tools' own pages show them


def draw(text: str) -> np.ndarray:
    return np.array([[sign == "#" for sign in row] for row in text.split()])


# The mask in CVAT's description of its XML, row by row in a box of 13 x 15 pixels
CIRCLE = draw(
    """...#####..... ..#######.... .#########... ###########.. ###########.. ############.
    ############. ############# ############# .############ .############ ..###########
    ...#########. ....#######.. .....#####..."""
)
CIRCLE_RUNS = "3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, 12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, 5, 7"
CIRCLE_RUNS += ", 7, 5, 3"
PLACED = np.pad(CIRCLE, ((4, 1), (10, 17)))  # in an image of 20 x 40
CVAT = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><mode>annotation</mode><flipped>False</flipped></task></meta>
  <image id="0" name="b.png" width="40" height="20">
    <points label="car" occluded="0" source="manual" points="11.20,10.40;2.99,2.01" z_order="0">
    </points>
  </image>
  <image id="1" name="shots/a 1#.png" width="40" height="20">
    <mask label="road" source="manual" occluded="0" rle="{CIRCLE_RUNS}" left="10" top="4" width="13"
      height="15" z_order="0"></mask>
  </image>
</annotations>"""


def label_studio(*regions, image="b", **more) -> str:
    annotation = {"id": "1001", "result": regions, "was_cancelled": False, "completed_by": 10}
    task = {"id": 1, "project": 83, "data": {"image": "/x", "name": image}}
    return json.dumps([task | {"annotations": [annotation | more], "predictions": []}])


def keypoint(x, y, label="car", **more) -> dict:
    value = {"x": x, "y": y, "width": 0.67, "keypointlabels": [label]}
    place = {"original_width": 40, "original_height": 20, "image_rotation": 0}
    return {"id": "hq", "from_name": "a", "to_name": "b", "type": "keypointlabels", "value": value,
            **place, **more}  # fmt: skip


def brush(mask: np.ndarray) -> list[int]:
    """Run lengths as the source of @thi.ng/rle-pack explains them, without its short sizes."""
    opacity = np.repeat(np.where(mask.reshape(-1), 200, 40), 4)  # 40: a brush's soft edge
    bits = f"{len(opacity):032b}{7:05b}" + 4 * f"{15:04b}"
    for run in np.split(opacity, np.flatnonzero(np.diff(opacity)) + 1):
        if len(run) > 4:
            bits += f"1{0:02b}{len(run) - 1:016b}{run[0]:08b}"
        else:
            bits += f"0{0:02b}{len(run) - 1:016b}" + "".join(f"{value:08b}" for value in run)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def coco(*annotations, **more) -> str:
    images = [{"id": 3, "file_name": "b.png", "width": 40, "height": 20}]
    images += [{"id": 5, "file_name": "a 1#.png", "width": 40, "height": 20}]
    categories = [{"id": 1, "name": "car", "supercategory": "vehicle"}, {"id": 9, "name": "road"}]
    told = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    return json.dumps(told | more)


def of_coco(**more) -> dict:
    return {"id": 12, "image_id": 3, "category_id": 1, "iscrowd": 0} | more


def brought(store, format: str, text: str, **more) -> tuple[int, int]:
    path = store.path.with_name("answers.file")
    path.write_text(text, encoding="utf-8")
    return import_answers(store, format, path, **more)


B_POINTS = ((), ((1, 1), (5, 5)))  # rows and columns of pixels that are 2 x 2 in the file


def test_points_of_a_file_by_each_tool(tmp_path):
    texts = {
        "label-studio": label_studio(keypoint(28.0, 52.0), keypoint(7.475, 10.05, CANNOT_TELL)),
        "cvat": CVAT.replace("<mask", "<!--").replace("</mask>", "-->"),
        "coco": coco(of_coco(keypoints=[11.2, 10.4, 2, 2.99, 2.01, 1, 0, 0, 0])),
    }
    for format, text in texts.items():
        folder = tmp_path / format
        folder.mkdir()
        store = make(folder, points=B_POINTS)
        assert brought(store, format, text, annotator="eve") == (2, 0)
        second = 255 if format == "label-studio" else 2
        assert given(store) == {1: {21: second}, 2: {105: 2}}
        assert set(store.answers()["annotator"]) == {"eve"}


# from encode(np.asfortranarray(PLACED.astype(np.uint8))) of pycocotools 2.0.11
COMPRESSED = "_66=3M2N2O1O1O0001O1O1N3M3MZ:"


@pytest.mark.parametrize(
    "format", [pytest.param("label-studio", marks=needs_sdk), "cvat", "coco", "zip"]
)
def test_masks_of_a_file_by_each_tool(format, tmp_path):
    asked = PLACED.copy()
    asked[4, 13] = False  # one pixel that was labelled was not asked
    asked[3, 15] = True  # and one the other way round
    store = make(tmp_path, segments=asked, size=(20, 40))
    size = {"original_width": 40, "original_height": 20, "image_rotation": 0}
    value = {"format": "rle", "rle": brush(PLACED), "brushlabels": ["road"]}
    edges = np.flatnonzero(np.diff(PLACED.T.reshape(-1).astype(int), prepend=0, append=0))
    counts = np.diff([0, *edges, 800]).tolist()
    segmentation = {"size": [20, 40], "counts": COMPRESSED if format == "zip" else counts}
    mask = of_coco(image_id=5, category_id=9, iscrowd=1, segmentation=segmentation)
    text = {
        "label-studio": label_studio(
            {"type": "brushlabels", "value": value, **size}, image="a 1#.png"
        ),
        "cvat": CVAT.replace("<points", "<!--").replace("</points>", "-->"),
    }.get(format, coco(mask))
    assert brought(store, "coco" if format == "zip" else format, text) == (1, 1)
    expected = dict.fromkeys(np.flatnonzero(PLACED & asked).tolist(), 0)
    assert given(store) == {1: expected | {3 * 40 + 15: 255}}


# ----------------------------------------------------------------------------------- bad input

POINT = keypoint(7.5, 15.0)  # on row 1, column 1, which is question 1
TWO = POINT | {"value": POINT["value"] | {"keypointlabels": ["car", "road"]}}
BOMB = "".join(f'<!ENTITY e{n} "{10 * f"&e{n - 1};"}">' for n in range(1, 10))  # 2 GB of text
BOMB = f'<!DOCTYPE a [<!ENTITY e0 "ha">{BOMB}]><annotations>&e9;</annotations>'
FILE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations>&a;</annotations>'
BAD = {
    "no JSON": ("label-studio", "[{]", "not as --format has it (JSONDecodeError"),
    "deep JSON": ("coco", "[" * 100_000, "(RecursionError"),
    "no XML": ("cvat", "<annotations>", "not as --format has it (ParseError"),
    "entity bomb": ("cvat", BOMB, "(ParseError: limit on input amplification"),
    "external entity": ("cvat", FILE, "(ParseError: undefined entity"),
    "archive": ("cvat", "PK\3\4", "is a ZIP archive; unpack it"),
    "JSON-MIN": ("label-studio", '[{"image": "/x", "kp": []}]', "not JSON-MIN"),
    "Label Studio's as COCO": ("coco", label_studio(), "or as COCO instances"),
    "video": ("cvat", CVAT.replace("image", "track"), "as CVAT for images 1.1"),
    "box": ("label-studio", label_studio(POINT | {"type": "rectanglelabels"}), "'rectanglelabels'"),
    "tag": ("cvat", CVAT.replace("points ", "tag ").replace("/points", "/tag"), "a shape <tag>"),
    "polygon": ("coco", coco(of_coco(segmentation=[[1, 1, 5, 1, 5, 5]])), "12: is neither"),
    "class": ("label-studio", label_studio(keypoint(7, 12, "cat")), "task 1: class 'cat'"),
    "two labels": ("label-studio", label_studio(TWO), "several labels"),
    "category": ("coco", coco(of_coco(category_id=4, keypoints=[1, 1, 2])), "(KeyError: 4)"),
    "image": ("cvat", CVAT.replace('"b.png"', '"c.png"'), "image 'c.png': the store"),
    "no name": ("label-studio", '[{"data": {}, "annotations": [{"result": [1]}]}]', "task 1: "),
    "size": ("cvat", CVAT.replace('width="40"', 'width="80"'), "80 x 20 pixels, and 40 x"),
    "outside": ("label-studio", label_studio(keypoint(101, 1)), "x 40.4, y 0.2 is outside"),
    "no number": ("coco", coco(of_coco(keypoints=[float("nan"), 1, 2])), "x nan, y 1 is out"),
    "not asked": ("coco", coco(of_coco(keypoints=[39, 19, 2])), "nobody asked the pixel"),
    "moved": ("label-studio", label_studio(keypoint(50, 50, id="question-1")), "back to x 3, y 3"),
    "other store's": ("label-studio", label_studio(POINT | {"id": "question-9"}), "the number 9"),
    "contradiction": ("label-studio", label_studio(POINT, keypoint(7, 14, "road")),
                      "image 'b': question 1 has two answers, 'car' and 'road'; keep one"),
    "outside mask": ("cvat", CVAT.replace('left="10"', 'left="30"'), "lies outside the image"),
    "half mask": ("cvat", CVAT.replace(", 7, 5, 3", ""), "do not fill 195 pixels"),
    "mask elsewhere": ("cvat", CVAT, "nobody asked where the mask 'road' lies"),
    "mask": ("coco", coco(of_coco(segmentation={"size": [1, 2], "counts": [2]})), "[1, 2]"),
    "garbled": ("coco", coco(of_coco(segmentation={"size": [20, 40], "counts": "~~"})), "fill"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_in_one_line_and_nothing_is_imported(case, tmp_path):
    format, text, message = BAD[case]
    store = make(tmp_path, points=B_POINTS)
    good = {"label-studio": label_studio(POINT), "coco": coco(of_coco(keypoints=[3, 3, 2]))}
    with pytest.raises(InputError) as refused:
        brought(store, format, text)
    assert str(refused.value).startswith(f"{tmp_path / 'answers.file'}: ")
    assert message in str(refused.value)
    assert store.answers().empty
    if format in good:  # the same answer twice counts once, and may be given with more effort
        assert brought(store, format, good[format]) == (1, 0)


def test_a_segment_of_which_little_is_labelled_is_refused(tmp_path):
    store = make(tmp_path, segments=np.ones((20, 40), bool), size=(20, 40))
    text = CVAT.replace("<points", "<!--").replace("</points>", "-->")
    with pytest.raises(
        InputError, match=f"only {CIRCLE.sum()} of 800 pixels of question 1 are labelled"
    ):
        brought(store, "cvat", text)


def test_the_seconds_of_a_stroke_over_two_questions_count_once(tmp_path):
    store = make(tmp_path, points=B_POINTS)
    again = Selection(SIZE, [np.empty(0, np.int64), np.array([1 * SIZE[1] + 1])])
    store.ask(again, "ppl/seed0/stage2", images=NAMES)  # the pixel of question 1, once more
    assert brought(store, "label-studio", label_studio(POINT, lead_time=6.0)) == (2, 0)
    assert store.answers()["seconds"].tolist() == [3.0, 3.0]


def test_a_failure_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    store = make(tmp_path, points=B_POINTS)
    text = label_studio(keypoint(28.0, 52.0), POINT, POINT)
    saved, save = [], store.answer
    monkeypatch.setattr(
        store, "answer", lambda *one: saved.append(save(*one)) or 1 / (2 - len(saved))
    )
    with pytest.raises(ZeroDivisionError):
        brought(store, "label-studio", text)
    assert len(saved) == 2
    assert store.answers().empty
    monkeypatch.undo()
    assert brought(store, "label-studio", text) == (2, 0)


def test_commands(tmp_path, capsys):
    store = make(tmp_path, points=B_POINTS)
    out = tmp_path / "out.xml"
    accepted("export", store.path, "--format", "cvat", "--out", out)
    assert capsys.readouterr().out.splitlines() == [
        "questions: 2", str(out), str(tmp_path / "out.labels.json")
    ]  # fmt: skip
    answer("cvat", out, {1: "car", 2: "road"})
    accepted("import", store.path, out, "--format", "cvat", "--annotator", "eve")
    assert "answers: 2" in capsys.readouterr().out
    assert store.answers()["annotator"].tolist() == ["eve", "eve"]
    missing = refused(capsys, "import", store.path, tmp_path / "none.xml")
    assert "none.xml: No such file" in missing
    assert "is the store itself" in refused(capsys, "export", store.path, "--out", store.path)
