"""Questions out to other labelling tools, and their answers back.

    format         points                     segments                    whose
    label-studio   keypointlabels             brushlabels                 JSON, Label Studio's own
    cvat           <points>                   <mask>                      CVAT for images 1.1
    coco           keypoints, one each        run lengths, uncompressed   COCO's object instances

A store counts positions at the network's size, tools count in the pixels of the file. A point is
written at the centre of its asked pixel, x to the right and y down, (0, 0) the image's corner; a
segment as a mask of the file's size.

Coming back, an answer belongs to the question whose number it still carries (Label Studio: the
region's id; CVAT: an attribute that keeps its value when the label is changed), and otherwise to
the question at its place. COCO's annotation ids are for reading only: tools count them anew, and
the place says all. What nobody has looked at is no answer: Label Studio keeps suggestions apart
from annotations; the other formats have no such place, so that questions are written there with
the label "unanswered" and the model's guess beside it.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from urllib.parse import quote
from xml.etree import ElementTree as xml

import cv2
import numpy as np

from labor_lib.annotation.store import Question, Store
from labor_lib.errors import InputError
from labor_lib.labels import IGNORE
from labor_lib.runtime import write_text

CANNOT_TELL = "cannot tell"  # the label of class 255
UNANSWERED = "unanswered"
LOCAL_FILES = "/data/local-files/?d="  # where Label Studio serves files of its own machine
_POINT_SIZE = 0.5  # of a point on Label Studio's screen, percent of the image's width


@dataclass(frozen=True)
class _Found:
    """One point or mask of a file.

    image: as the file calls it. size: (height, width) of the image there, pixels. point: (x, y) in
    them. mask: makes h x w booleans, called once the size is known to be right. number: of the
    question, None: it carries none. annotator: None: the file does not say. seconds: None: not
    measured.
    """

    image: str
    size: tuple[int, int]
    label: str
    point: tuple[float, float] | None = None
    mask: Callable[[], np.ndarray] | None = None
    number: int | None = None
    annotator: str | None = None
    seconds: float | None = None


class _Images:
    """The images of a store, as paths below the folder that they share."""

    def __init__(self, store: Store):
        table = store.images()
        paths = dict(zip(table["name"], map(Path, table["path"]), strict=True))
        try:
            root = os.path.commonpath([path.parent for path in paths.values()]) if paths else ""
        except ValueError:  # Windows
            raise InputError(f"{store.path}: its images lie on several drives") from None
        self.files = {name: path.relative_to(root).as_posix() for name, path in paths.items()}
        self.sizes = {row.name: (row.height, row.width) for row in table.itertuples()}
        self._names = {file: name for name, file in self.files.items()} | {n: n for n in paths}
        self._ends: dict[str, list[str]] = defaultdict(list)  # tools cut folders off
        for name, file in self.files.items():
            self._ends[file.rpartition("/")[2]].append(name)

    def find(self, text: str) -> str:
        """The name of an image by what a file calls it; raises InputError where none is meant."""
        if text in self._names:
            return self._names[text]
        found = self._ends.get(text.replace("\\", "/").rpartition("/")[2], [])
        if len(found) != 1:
            raise InputError(
                f"image '{text}': the store has {len(found)} of this name; name it as `export` does"
            )
        return found[0]


# ----------------------------------------------------------------------------------- two sizes


def _centres(question: Question, native: tuple[int, int]) -> np.ndarray:
    """Centres of the asked pixels, n x 2 (x, y) in pixels of the file. native: (height, width)."""
    boxes = question.cells(native)
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _to_native(question: Question, native: tuple[int, int]) -> np.ndarray:
    """A segment as a mask of the file's size, h x w booleans; every asked pixel's centre is in."""
    asked = np.zeros(question.size, np.uint8)
    asked.reshape(-1)[question.positions] = 1
    mask = cv2.resize(asked, native[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
    x, y = _centres(question, native).astype(int).T  # files smaller than the network's size
    mask[y, x] = True
    return mask


# --------------------------------------------------------------------------------- run lengths


def _runs(flat: np.ndarray) -> list[int]:
    """Lengths of alternating runs of a flat mask, zeros first."""
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    lengths = np.diff([0, *edges, len(flat)]).tolist()
    return [0, *lengths] if flat[0] else lengths


def _mask(runs: list[int], length: int) -> np.ndarray:
    """The reverse, flat booleans; ValueError where the runs do not fill it."""
    lengths = np.array(runs, dtype=np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != length:
        raise ValueError(f"its run lengths do not fill {length} pixels")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def _brush() -> ModuleType:
    """Label Studio's own code for its run lengths, which are packed by the bit."""
    try:
        return import_module("label_studio_sdk.converter.brush")
    except ImportError:
        raise InputError(
            "brush masks need label-studio-sdk; install it: python -m pip install "
            "'labor-lib[exchange]'"
        ) from None


def _brush_mask(rle: list[int], size: tuple[int, int]) -> np.ndarray:
    """h x w booleans from run lengths of RGBA bytes; the mask is their opacity."""
    data = bytes(rle)
    if int.from_bytes(data[:4], "big") != 4 * size[0] * size[1]:
        raise ValueError(f"its run lengths are not of an image of {size[1]} x {size[0]} pixels")
    return _brush().decode_rle(data).reshape(*size, 4)[:, :, 3] >= 128


# ---------------------------------------------------------------------------------- questions


_Asked = dict[str, list[Question]]  # by image


def export_questions(
    store: Store, format: str, out_path: str | Path, images: str = LOCAL_FILES
) -> tuple[int, list[Path]]:
    """Write a store's open questions for another tool.

    images: what Label Studio finds an image under, put before its path below the folder that all
    images share. Returns how many questions there are, and the files: the questions, and for
    label-studio and cvat the labels that the tool's project needs. Raises InputError for an
    unknown format, class names that stand for something else, and where nothing is open.
    """
    out_path, named = Path(out_path), _Images(store)
    if out_path.exists() and out_path.samefile(store.path):
        raise InputError(f"{out_path}: is the store itself; give another file")
    for name in (CANNOT_TELL, UNANSWERED):
        if name in store.classes:
            raise InputError(f"{store.path}: a class is called '{name}', which has another meaning")
    asked: _Asked = defaultdict(list)
    for question in store.questions(still_open=True):
        asked[question.image].append(question)
    if not asked:
        raise InputError(f"{store.path}: no question is open")
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in store.colours.tolist()]
    labels = dict(zip(store.classes, colours, strict=True)) | {CANNOT_TELL: "#000000"}
    write, _ = _format(format)
    texts = write(asked, named, labels, images)
    files = [out_path.with_suffix(ending) if ending else out_path for ending in texts]
    for file, text in zip(files, texts.values(), strict=True):
        write_text(file, text)
    return sum(map(len, asked.values())), files


def _guess(question: Question, labels: dict[str, str]) -> str:
    """The label of the model's guess; without one, that it cannot tell."""
    return CANNOT_TELL if question.guess == IGNORE else list(labels)[question.guess]


def _write_label_studio(
    asked: _Asked, named: _Images, labels: dict[str, str], images: str
) -> dict[str, str]:
    """Tasks with the guesses as predictions, and the labelling configuration."""
    tasks = []
    for image, questions in asked.items():
        h, w = named.sizes[image]
        result = []
        for question in questions:
            if question.kind == "point":
                x, y = _centres(question, (h, w))[0].tolist()
                value = {"x": 100 * x / w, "y": 100 * y / h, "width": _POINT_SIZE}
                type_ = "keypointlabels"
            else:
                mask = 255 * _to_native(question, (h, w)).astype(np.uint8)
                value = {"format": "rle", "rle": _brush().mask2rle(mask)}
                type_ = "brushlabels"
            value[type_] = [_guess(question, labels)]
            result.append({
                "id": f"question-{question.id}", "type": type_, "from_name": question.kind,
                "to_name": "image", "original_width": w, "original_height": h,
                "image_rotation": 0, "value": value,
            })  # fmt: skip
        data = {"image": images + quote(named.files[image]), "name": image}
        predictions = [{"model_version": "labor", "result": result}]
        tasks.append({"data": data, "predictions": predictions})
    view = xml.Element("View")
    xml.SubElement(view, "Image", name="image", value="$image", zoom="true", zoomControl="true")
    kinds = {question.kind for questions in asked.values() for question in questions}
    for kind, tag in (("point", "KeyPointLabels"), ("segment", "BrushLabels")):
        if kind in kinds:
            control = xml.SubElement(view, tag, name=kind, toName="image")
            for label, colour in labels.items():
                xml.SubElement(control, "Label", value=label, background=colour)
    return {"": json.dumps(tasks, indent=1), ".labels.xml": _xml_text(view)}


def _write_cvat(asked: _Asked, named: _Images, labels: dict[str, str], _: str) -> dict[str, str]:
    """annotations.xml, and the labels as CVAT's constructor of projects reads them.

    CVAT takes the labels from its task alone: the XML need not list them (its `load_anno`).
    """
    attributes = [
        {"name": name, "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
        for name in ("question", "guess")
    ]
    project = [
        {"name": label, "color": colour, "type": "any", "attributes": attributes}
        for label, colour in {UNANSWERED: "#ffffff", **labels}.items()
    ]
    root = xml.Element("annotations")
    xml.SubElement(root, "version").text = "1.1"
    for index, image in enumerate(sorted(asked, key=named.files.get)):
        h, w = named.sizes[image]
        size = {"width": str(w), "height": str(h)}
        one = xml.SubElement(root, "image", id=str(index), name=named.files[image], **size)
        for question in asked[image]:
            common = {"label": UNANSWERED, "source": "auto", "occluded": "0", "z_order": "0"}
            if question.kind == "point":
                x, y = _centres(question, (h, w))[0].tolist()
                shape = xml.SubElement(one, "points", points=f"{x},{y}", **common)
            else:
                mask = _to_native(question, (h, w))
                left, top, width, height = box = cv2.boundingRect(mask.astype(np.uint8))
                place = dict(zip(("left", "top", "width", "height"), map(str, box), strict=True))
                inside = mask[top : top + height, left : left + width]
                runs = ", ".join(map(str, _runs(inside.reshape(-1))))  # row by row
                shape = xml.SubElement(one, "mask", rle=runs, **place, **common)
            for name, value in (("question", question.id), ("guess", _guess(question, labels))):
                xml.SubElement(shape, "attribute", name=name).text = str(value)
    return {"": _xml_text(root), ".labels.json": json.dumps(project, indent=1)}


def _write_coco(asked: _Asked, named: _Images, labels: dict[str, str], _: str) -> dict[str, str]:
    """Object instances; ids from 1, as most readers want them."""
    categories = [
        {"id": number, "name": label, "supercategory": "", "keypoints": ["point"], "skeleton": []}
        for number, label in enumerate((*labels, UNANSWERED), 1)
    ]
    images, annotations = [], []
    for number, (image, questions) in enumerate(asked.items(), 1):
        h, w = named.sizes[image]
        images.append({"id": number, "file_name": named.files[image], "width": w, "height": h})
        for question in questions:
            if question.kind == "point":
                x, y = _centres(question, (h, w))[0].tolist()
                shape = {
                    "keypoints": [x, y, 2], "num_keypoints": 1, "segmentation": [], "iscrowd": 0,
                    "area": 0, "bbox": [x, y, 0, 0],
                }  # fmt: skip
            else:
                mask = _to_native(question, (h, w))
                counts = _runs(mask.reshape(-1, order="F"))  # column by column
                shape = {
                    "segmentation": {"size": [h, w], "counts": counts}, "iscrowd": 1,
                    "area": int(mask.sum()), "bbox": list(cv2.boundingRect(mask.astype(np.uint8))),
                }  # fmt: skip
            annotations.append({
                "id": question.id, "image_id": number, "category_id": len(categories),
                "guess": _guess(question, labels), **shape,
            })  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": categories}
    return {"": json.dumps(content, indent=1)}


def _xml_text(root: xml.Element) -> str:
    """Without a declaration, which Label Studio refuses: what has none is UTF-8."""
    xml.indent(root)
    return xml.tostring(root, encoding="unicode") + "\n"


# ------------------------------------------------------------------------------------ answers


def import_answers(
    store: Store, format: str, in_path: str | Path, annotator: str | None = None
) -> tuple[int, int]:
    """Bring the answers of a tool's file into a store: all of them, or after an error none.

    annotator: who gave them; by default who the file names, and else the format's name. Of a
    segment that is labelled for the most part, the rest counts as "cannot tell". Returns how many
    questions were answered, and how many labelled pixels lie beside their question and are left
    out. Raises InputError, naming the file, for whatever is wrong with it,
    for an unknown class or image, answers outside the image or where nobody asked, and two
    different ones for one question.
    """
    path, (_, read), answers = Path(in_path), _format(format), _Answers(store, annotator, format)
    with _blaming(path):
        content = path.read_bytes()
        if content.startswith(b"PK"):
            raise InputError("is a ZIP archive; unpack it and give the file inside")
        read(content, answers.add)
        complete = list(answers.complete())
    with store.together():
        for answer in complete:
            store.answer(*answer)
    return len(complete), answers.outside


@contextmanager
def _blaming(place: object) -> Iterator[None]:
    """What goes wrong inside, as an InputError that names the file or the place in it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    except OSError as error:
        raise InputError(f"{place}: {error.strerror}") from None
    except (
        TypeError, ValueError, AttributeError, LookupError, OverflowError, RecursionError,
        xml.ParseError,
    ) as error:  # fmt: skip
        raise InputError(
            f"{place}: not as --format has it ({type(error).__name__}: {error}); export it again, "
            "as JSON (not JSON-MIN) of Label Studio, as CVAT for images 1.1, or as COCO instances"
        ) from None


class _Answers:
    """What a file answers, gathered by question and annotator.

    outside: labelled pixels that lie beside their question.
    """

    def __init__(self, store: Store, annotator: str | None, format: str):
        self.annotator, self.format, self.outside = annotator, format, 0
        self.images = _Images(store)
        self.labels = {name: label for label, name in enumerate(store.classes)}
        self.labels.setdefault(CANNOT_TELL, IGNORE)
        self.asked: dict[tuple[str, str], list[Question]] = defaultdict(list)
        for question in store.questions():
            self.asked[question.image, question.kind].append(question)
        # of each question and annotator: the label of every position, -1: none; and the seconds
        self.given: dict[tuple[int, str], np.ndarray] = {}
        self.seconds: dict[tuple[int, str], float | None] = {}

    def add(self, found: _Found) -> None:
        if found.label == UNANSWERED:
            return
        if found.label not in self.labels:
            raise InputError(f"class '{found.label}': the store has {', '.join(self.labels)}")
        image = self.images.find(found.image)
        if found.size != self.images.sizes[image]:
            (h, w), (height, width) = found.size, self.images.sizes[image]
            raise InputError(
                f"image '{image}': {w} x {h} pixels, and {width} x {height} in the store; label "
                "the same file, neither turned nor scaled"
            )
        kind = "segment" if found.point is None else "point"
        questions = self.asked[image, kind]
        if found.number is not None:
            questions = [one for one in questions if one.id == found.number]
            if not questions:
                raise InputError(f"image '{image}': has no {kind} with the number {found.number}")
        mask = found.mask() if found.mask else None
        hits = [one for one in questions if _answered(one, found, mask).any()]
        if not hits:
            raise InputError(f"image '{image}': {_astray(found, questions)}")
        if found.seconds is not None:  # of one act, however many questions it answers
            found = replace(found, seconds=found.seconds / len(hits))
        for question in hits:
            self._label(question, _answered(question, found, mask), found)
        if mask is not None:
            asked = np.any([_to_native(one, found.size) for one in hits], axis=0)
            self.outside += int((mask & ~asked).sum())

    def _label(self, question: Question, here: np.ndarray, found: _Found) -> None:
        """here: for every position of the question, whether it is answered."""
        key = (question.id, self.annotator or found.annotator or self.format)
        given = self.given.setdefault(key, np.full(len(here), -1, np.int16))
        label = self.labels[found.label]
        others = np.setdiff1d(given[here], [-1, label])
        if len(others):
            names = {number: name for name, number in self.labels.items()}
            raise InputError(
                f"image '{question.image}': question {question.id} has two answers, "
                f"'{names[int(others[0])]}' and '{found.label}'; keep one"
            )
        if found.seconds is not None and (given[here] < 0).any():  # not the same answer again
            self.seconds[key] = self.seconds.get(key, 0.0) + found.seconds
        given[here] = label

    def complete(self) -> Iterator[tuple]:
        """What `Store.answer` takes, of every answered question."""
        questions = {one.id: one for group in self.asked.values() for one in group}
        for (number, annotator), given in self.given.items():
            question, known = questions[number], int((given >= 0).sum())
            if 2 * known < len(given):
                raise InputError(
                    f"image '{question.image}': only {known} of {len(given)} pixels of question "
                    f"{number} are labelled; label the rest too, or as '{CANNOT_TELL}'"
                )
            given[given < 0] = IGNORE
            parts = [(question.positions[given == one], one) for one in np.unique(given).tolist()]
            yield number, annotator, IGNORE, self.seconds.get((number, annotator)), parts


def _answered(question: Question, found: _Found, mask: np.ndarray | None) -> np.ndarray:
    """For every position of a question, whether it lies under the point or mask of a file."""
    if mask is not None:
        x, y = _centres(question, found.size).astype(int).T
        return mask[y, x]
    (x, y), (h, w), (height, width) = found.point, found.size, question.size
    if not (0 <= x <= w and 0 <= y <= h):
        raise InputError(f"image '{found.image}': x {x:g}, y {y:g} is outside its {w} x {h} pixels")
    row, column = min(int(y * height / h), height - 1), min(int(x * width / w), width - 1)
    return question.positions == row * width + column


def _astray(found: _Found, questions: list[Question]) -> str:
    """What to say of an answer where nobody asked."""
    if found.point is None:
        return f"nobody asked where the mask '{found.label}' lies; put it back, or remove it"
    text = "nobody asked the pixel at x {:g}, y {:g}".format(*found.point)
    if found.number is None:
        return f"{text}; remove this point"
    x, y = _centres(questions[0], found.size)[0]
    return f"{text}; put the point of question {found.number} back to x {x:g}, y {y:g}"


# ------------------------------------------------------------------------------------- readers


_Take = Callable[[_Found], None]


def _read_label_studio(content: bytes, take: _Take) -> None:
    for place, task in enumerate(json.loads(content), 1):
        with _blaming(f"task {task.get('id', place)}"):
            data = task["data"]
            for annotation in task.get("annotations", []):
                if annotation.get("was_cancelled"):  # skipped
                    continue
                who, seconds = annotation.get("completed_by"), annotation.get("lead_time")
                if isinstance(who, dict):
                    who = who.get("email")
                regions = annotation["result"]
                for region in regions:
                    number = re.fullmatch(r"question-(\d{1,18})", str(region.get("id")))
                    size = int(region["original_height"]), int(region["original_width"])
                    label, shape = _region(region["type"], region["value"], size)
                    take(_Found(
                        str(data["name"]), size, label, **shape,
                        number=int(number[1]) if number else None,
                        annotator=None if who is None else str(who),
                        seconds=None if seconds is None else float(seconds) / len(regions),
                    ))  # fmt: skip


def _region(kind: str, value: dict, size: tuple[int, int]) -> tuple[str, dict]:
    """Label and shape of one region. image_rotation is how the image was last looked at: the
    region stays in the pixels of the file (Label Studio's `Image.js` and `exportRLE`)."""
    if kind == "keypointlabels":
        point = float(value["x"]) * size[1] / 100, float(value["y"]) * size[0] / 100
        shape: dict = {"point": point}
    elif kind == "brushlabels":
        shape = {"mask": lambda: _brush_mask(value["rle"], size)}
    else:
        raise InputError(f"a region of type '{kind}'; answer by key points and brush alone")
    if len(value[kind]) != 1:
        raise InputError("a region with several labels or none; give it one")
    return value[kind][0], shape


def _read_cvat(content: bytes, take: _Take) -> None:
    root = xml.fromstring(content)
    if root.tag != "annotations" or root.findtext("version") != "1.1" or root.findall("track"):
        raise ValueError(f"<{root.tag}>")
    for image in root.iter("image"):
        with _blaming(f"image '{image.get('name')}'"):
            size = int(image.attrib["height"]), int(image.attrib["width"])
            for shape in image:
                told = {one.get("name"): one.text for one in shape.iter("attribute")}
                number = int(told["question"]) if (told.get("question") or "").strip() else None
                for one in _shapes(shape, size):
                    label = shape.attrib["label"]
                    take(_Found(image.attrib["name"], size, label, **one, number=number))


def _shapes(shape: xml.Element, size: tuple[int, int]) -> Iterator[dict]:
    """What an element holds: several points, or one mask in a box of the image."""
    if shape.tag == "points":
        for pair in shape.attrib["points"].split(";"):
            x, y = map(float, pair.split(","))
            yield {"point": (x, y)}
    elif shape.tag == "mask":
        left, top, w, h = (int(shape.attrib[n]) for n in ("left", "top", "width", "height"))
        runs = [int(run) for run in shape.attrib["rle"].split(",")]
        if min(left, top) < 0 or left + w > size[1] or top + h > size[0]:
            raise InputError("a mask that lies outside the image")

        def mask() -> np.ndarray:
            inside = _mask(runs, w * h).reshape(h, w)  # row by row, as CVAT's mask2Rle walks
            return np.pad(inside, ((top, size[0] - top - h), (left, size[1] - left - w)))

        yield {"mask": mask}
    else:
        raise InputError(f"a shape <{shape.tag}>; answer by points and masks alone")


def _read_coco(content: bytes, take: _Take) -> None:
    told = json.loads(content)
    images = {one["id"]: one for one in told["images"]}
    names = {one["id"]: one["name"] for one in told["categories"]}
    for annotation in told["annotations"]:
        with _blaming(f"annotation {annotation.get('id')}"):
            image, label = images[annotation["image_id"]], names[annotation["category_id"]]
            size = int(image["height"]), int(image["width"])
            for shape in _instances(annotation, size):
                take(_Found(image["file_name"], size, label, **shape))


def _instances(annotation: dict, size: tuple[int, int]) -> Iterator[dict]:
    """Key points that are labelled (v > 0), or one mask."""
    points, mask = annotation.get("keypoints"), annotation.get("segmentation")
    if points:
        for x, y, visible in zip(points[::3], points[1::3], points[2::3], strict=True):
            if visible:
                yield {"point": (float(x), float(y))}
    elif isinstance(mask, dict):
        counts = mask["counts"]
        if list(mask["size"]) != list(size):
            raise ValueError(f"its mask has the size {mask['size']}, its image {list(size)}")
        runs = _unpacked(counts) if isinstance(counts, str) else counts
        yield {"mask": lambda: _mask(runs, size[0] * size[1]).reshape(size, order="F")}
    else:
        raise InputError("is neither a key point nor a mask of run lengths (RLE); save it as that")


def _unpacked(text: str) -> list[int]:
    """Run lengths from COCO's compressed text: five bits a character, from the third one on as
    the difference to the last but one (`rleFrString` of pycocotools, which crashes on bad text)."""
    runs: list[int] = []
    value = shift = 0
    for sign in text.encode("ascii"):
        value |= (sign - 48 & 0x1F) << shift
        shift += 5
        if not sign - 48 & 0x20:  # the last of its number
            value -= (sign - 48 & 0x10) >> 4 << shift  # below zero
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


FORMATS = {
    "label-studio": (_write_label_studio, _read_label_studio),
    "cvat": (_write_cvat, _read_cvat),
    "coco": (_write_coco, _read_coco),
}


def _format(name: str) -> tuple[Callable, Callable]:
    """How a format is written and read."""
    if name not in FORMATS:
        raise InputError(f"format '{name}': choose {', '.join(FORMATS)}")
    return FORMATS[name]
