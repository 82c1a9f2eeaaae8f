"""A project: LabOR on images of one's own, without labels, answered by people.

    FOLDER/project.json     the settings given to `start`: images, source, method
    FOLDER/store.sqlite     the questions and the answers
    FOLDER/drawn/           the source's streets, where they are drawn
    FOLDER/config.json, results.csv, seed0/...     the run folder of one method and one seed
    FOLDER/predictions/, predictions.html          after the last stage

`start` and `next` do the same: run the phases that are missing, until people have to answer. So
either can be killed and repeated.
"""

import csv
import math
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image
from scipy import stats
from torch import Tensor

from labor_lib.annotation.store import Store
from labor_lib.config import CAMVID, Config, DataConfig, check_budget, filled
from labor_lib.data.pictures import read_rgb
from labor_lib.data.segmentation import LAYOUTS, SegmentationFolder
from labor_lib.errors import InputError, Waiting
from labor_lib.lab.pipeline import PAGES, differences, finished
from labor_lib.lab.segmentation import Roots, SegmentationPhases
from labor_lib.labels import CLASS_SETS, IGNORE, NAMES, classes_of
from labor_lib.methods.registry import METHODS
from labor_lib.nets import deeplab
from labor_lib.runtime import load_weights, make_fabric, read_json, write_json, write_text, writing
from labor_lib.train import image_batches

BASE = CAMVID  # the defaults of every project
HELD_OUT = 0.1  # share of the questions that is kept aside
IN_MEMORY = 3000  # images of both domains that are kept decoded
SHOWN = 480  # pixels: width of a photograph on predictions.html
_CLASS_SETS = {"drawn": "streets14", "synthia": "synthia16"} | {
    name: "camvid11" for name in LAYOUTS if name.startswith("camvid")
}  # of a source, where no classes are given; of others cityscapes19


@dataclass(frozen=True)
class Project:
    """The settings given to `start`. images: their folder. source: None where streets are drawn."""

    folder: Path
    images: Path
    source: Path | None
    method: str
    config: Config
    device: str = "auto"
    precision: str = "auto"

    @classmethod
    def open(cls, folder: Path) -> "Project":
        """Raises InputError where there is none, or its record is damaged."""
        path = Path(folder) / "project.json"
        if not path.is_file():
            raise InputError(
                f"{folder}: no project; begin one with `python -m labor_lib start {folder} "
                "--images FOLDER`"
            )
        record = read_json(path)
        try:
            source, config = record["source"], filled(BASE, record["settings"])
            return cls(
                Path(folder), Path(record["images"]), Path(source) if source else None,
                METHODS[record["method"]].name, config, record["device"], record["precision"],
            )  # fmt: skip
        except (KeyError, TypeError):
            raise InputError(f"{path}: damaged; restore it, or begin another project") from None

    def save(self, answers: int) -> None:
        """Write project.json and the store, or compare with those there; images and the source may
        have moved. answers: of different people, that a question needs.

        Raises InputError where the folder holds something else or another project.
        """
        asking = [name for name, m in METHODS.items() if m.asks and not (m.trains_as or m.rival)]
        if self.method not in asking:
            raise InputError(f"--method {self.method}: asks nobody; choose {', '.join(asking)}")
        path, then = self.folder / "project.json", {}
        now = {
            "images": str(self.images.resolve()),
            "source": str(self.source.resolve()) if self.source else None,
            "method": self.method,
            "settings": self.config.as_dict(),
            "device": self.device,
            "precision": self.precision,
        }
        if path.exists():
            then = read_json(path)
            fixed = {name: then.get(name) for name in ("method", "settings")}
            changed = differences(fixed, now)
            if changed:
                raise InputError(
                    f"{self.folder}: a project with other settings: {changed}; continue it with "
                    f"`python -m labor_lib next {_shell(self.folder)}`, or choose another folder"
                )
        elif (self.folder / "config.json").exists():
            raise InputError(f"{self.folder}: holds a run; choose another folder for the project")
        if then != now:
            write_json(path, now)
        if not (self.store_path.exists() and self.store_path.stat().st_size):
            classes = classes_of(self.config.data)
            Store.create(self.store_path, classes.names, classes.palette, answers).close()

    def plan(self) -> str:
        """What is about to be done with which files."""
        photographs = _photographs(self.images, self.config.data)
        sizes = sorted(set(_sizes(photographs)), key=math.prod)
        range_of = " to ".join(f"{h} x {w}" for h, w in dict.fromkeys((sizes[0], sizes[-1])))
        height, width = self.config.data.target_size
        text = (
            f"{len(photographs)} images of {range_of} pixels (height x width), seen by the network "
            f"at {height} x {width}"
        )
        files = {path.name for path in self.images.iterdir() if path.is_file()}
        others = sorted(
            name for name in files - {p.name for p in photographs.paths} if name[0] != "."
        )
        if others:
            text += f"\nleft out, because not PNG or JPEG: {', '.join(others[:5])}"
            text += f" and {len(others) - 5} more" if len(others) > 5 else ""
        if METHODS[self.method].sees == "points":
            points = self.config.budget.points // self.stages
            text += (
                f"\nat most {points} points an image in each of {self.stages} stages, so "
                f"{points * len(photographs)} questions a stage"
            )
        return text

    @property
    def store_path(self) -> Path:
        return self.folder / "store.sqlite"

    @property
    def stages(self) -> int:
        return self.config.budget.stages

    def stage(self, number: int) -> Path:
        """The folder of a stage, from 1."""
        return self.folder / "seed0" / self.method / f"stage{number}"

    def trained(self) -> int:
        """Stages that are finished."""
        return sum(finished(self.stage(number)) for number in range(1, self.stages + 1))

    # ------------------------------------------------------------------------------- the work

    def advance(self, command: str = "") -> None:
        """Train and select until people have to answer, or to the end: then write predictions."""
        names = set(LAYOUTS["images"].files(self.images, "train"))
        asked = set(Store(self.store_path).images()["name"])
        if names and asked and names != asked:
            name = min(names ^ asked)
            what, fix = ("is new", "take it out") if name in names else ("is gone", "put it back")
            raise InputError(
                f"{self.images}: image '{name}' {what} since the project began "
                f"({len(names ^ asked)} such in all); {fix}, or begin another project"
            )
        fabric = make_fabric(self.device, self.precision)
        roots = Roots(self.folder / "drawn", self.source, self.images)
        asking = f"store:{self.store_path}"
        phases = SegmentationPhases(self.config, self.folder, roots, fabric, command, asking)
        try:
            phases.run([METHODS[self.method]], [0])
        except Waiting:
            return
        self.write_predictions(fabric, phases.domains(0).target)

    def must_be_answered(self) -> None:
        """Raises Waiting where questions are open."""
        table = Store(self.store_path).progress()
        if table["open"].sum():
            last = table.iloc[-1]
            raise Waiting(
                f"{self.folder}: {last['open']} of {last['asked']} questions of stage "
                f"{last['stage']} are open; answer them first: `make annotate "
                f"FOLDER={_shell(self.folder)}`"
            )

    def write_predictions(self, fabric, folder: SegmentationFolder) -> None:
        """predictions/NAME.png, a palette picture of class ids at the photograph's size, of every
        image; predictions/overlays/NAME.jpg; predictions.html, which is written last."""
        classes = classes_of(self.config.data)
        net = deeplab.build(self.config.train.network, len(classes))
        load_weights(net, self.stage(self.stages) / "segmenter.safetensors")
        net.to(fabric.device).eval()
        place, shown = self.folder / "predictions", []
        for images in image_batches(folder, self.config, fabric.device):
            with torch.no_grad(), fabric.autocast():
                logits = net(images)[0]
            for one in logits:
                name, size = folder.names[len(shown)], folder.native_size(len(shown))
                label = most_probable(one, size).cpu().numpy()
                picture = Image.fromarray(label)
                picture.putpalette(classes.palette.tobytes())
                with writing(place / f"{name}.png") as temporary:
                    picture.save(temporary, "PNG")
                overlay = _overlay(read_rgb(folder.paths[len(shown)]), label, classes.palette)
                with writing(place / "overlays" / f"{name}.jpg") as temporary:
                    overlay.save(temporary, "JPEG", quality=85)
                shown.append({"name": name, "size": size, "shares": _shares(label, classes.names)})
        page = PAGES.get_template("predictions.html.jinja").render(
            project=self, shown=shown, quote=quote, agreement=self.agreement(), title=_title(self),
            colours=dict(zip(classes.names, classes.palette.tolist(), strict=True)),
        )  # fmt: skip
        write_text(self.page, page)

    @property
    def page(self) -> Path:
        return self.folder / "predictions.html"

    # ----------------------------------------------------------------------------- the status

    def agreement(self) -> str:
        """One sentence: how often the last finished stage says what people said, or ""."""
        stage = self.trained()
        if not stage:
            return ""
        scores = read_json(self.stage(stage) / "phase.json")["scores"]
        count = int(scores.get("held_out", 0))
        if not count:
            return f"After stage {stage}: no answer was kept aside to compare with."
        same = round(scores["agreement"] * count / 100)
        low, high = stats.binomtest(same, count).proportion_ci(method="wilson")
        return (
            f"After stage {stage} the model agrees with {same} of {count} answers that were kept "
            f"aside: {100 * same / count:.0f} % (95 % interval {100 * low:.0f} to "
            f"{100 * high:.0f} %). They lie where the method asks, so mostly at hard places."
        )

    def status(self) -> str:
        """Where the project stands and what comes next, a line each."""
        lines = [_title(self)]
        store = Store(self.store_path)
        table, answers = store.progress(), store.answers()
        for row in table.to_dict("records"):
            own = answers[answers["selection"] == row["selection"]]
            people = own.groupby("annotator")["question"].nunique()
            by = ", ".join(f"{name} {count}" for name, count in people.items())
            lines.append(
                f"  stage {row['stage']} of {self.stages}: {row['asked']} questions, "
                f"{row['answered']} answered{f' ({by})' if by else ''}, {row['open']} open"
            )
        lines += [self.agreement(), *self._next(int(table["open"].sum()), store)]
        return "\n".join(filter(None, lines))

    def _next(self, questions: int, store: Store) -> list[str]:
        """What to do now."""
        folder = _shell(self.folder)
        go_on = f"python -m labor_lib next {folder}"
        if questions:
            seconds = store.seconds()
            time = "" if seconds is None else f", about {questions * seconds / 60:.0f} minutes"
            return [
                f"Next: answer the {questions} open questions{time}:",
                f"  make annotate FOLDER={folder}",
                "  or, in another tool: python -m labor_lib export "
                f"{_shell(self.store_path)} --format label-studio --out tasks.json",
                f"Then: {go_on}",
            ]
        if self.page.exists():
            return [f"Finished: {self.page} shows the predictions; they are in predictions/."]
        return [f"Next: {go_on}"]


def fitted(
    config: Config,
    images: Path,
    source: Path | None,
    layout: str | None = None,
    classes: str | None = None,
    size: str | None = None,
) -> Config:
    """The configuration with what follows from the folders: layouts, classes and sizes.

    source: None for drawn streets. layout: the source's. classes: a file of `read_classes`, or the
    name of a class set; None: the source's own. size: "180x240"; None: of the area that the
    configuration has, in the images' shape. Raises InputError for what does not fit.
    """
    drawn = source is None
    if not drawn and layout not in set(LAYOUTS) - {"images"}:
        known = ", ".join(name for name in LAYOUTS if name != "images")
        raise InputError(f"--source {source}: say with --source-layout which it is: {known}")
    source_layout = "gta5" if drawn else layout  # the drawn streets are written so
    own, class_set = _classes(classes, "drawn" if drawn else layout, source_layout)
    data = replace(
        config.data, source_layout=source_layout, target_layout="images", embedded=drawn,
        one_root=False, class_set=class_set, classes=own,
    )  # fmt: skip
    height, width = data.target_size
    photographs = _photographs(images, data)
    target_size = _size(size) if size else network_size(_sizes(photographs), height * width)
    source_size, count = target_size, data.drawn_source
    if not drawn:
        labelled = SegmentationFolder(source, layout, "train", classes_of(data), (8, 8))
        source_size, count = network_size(_sizes(labelled), height * width), len(labelled)
    data = replace(
        data, target_size=target_size, source_size=source_size, drawn_size=target_size,
        cache=count + len(photographs) <= IN_MEMORY,
    )  # fmt: skip
    config = replace(config, data=data, budget=replace(config.budget, held_out=HELD_OUT))
    check_budget(config)
    return config


def _photographs(images: Path, data: DataConfig) -> SegmentationFolder:
    return SegmentationFolder(images, "images", "train", classes_of(data), labels=False)


# ------------------------------------------------------------------------------------- classes


def _classes(classes: str | None, source: str, layout: str) -> tuple[tuple, str]:
    """Own classes and no name, or none and the name of a class set."""
    if classes is None and source == "pairs":
        raise InputError("--source-layout pairs: say with --classes FILE what its ids mean")
    if classes is None or (classes in CLASS_SETS and source != "pairs"):
        return (), classes or _CLASS_SETS.get(source, "cityscapes19")
    return read_classes(Path(classes), layout), "own"


def read_classes(path: Path, layout: str) -> tuple:
    """The rows of `labels.own_classes` from a CSV file with the columns name, colour and source.

    colour: "#rrggbb"; without it one is given. source: what the source calls it: ids in its label
    files or, in layouts with Cityscapes' classes, their names, with + between several; empty for a
    class that only people know. Without this column ids count from 0.
    Raises InputError for what is not such a file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--classes {path}: cannot be read ({error}); give a CSV file with the columns name, "
            f"colour and source, or one of {', '.join(CLASS_SETS)}"
        ) from None
    first = text.partition("\n")[0]
    delimiter = ";" if ";" in first and "," not in first else ","  # as some spreadsheets write
    table = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    columns = [name.strip().lower() for name in table.fieldnames or ()]
    table.fieldnames = ["colour" if name == "color" else name for name in columns]
    if "name" not in columns:
        raise InputError(f"{path}: no column 'name'; its first line must be name,colour,source")
    rows, seen = [], {}
    for number, row in enumerate(row for row in table if (row["name"] or "").strip()):
        name, colour = row["name"].strip(), (row.get("colour") or "").strip().lower()
        given = row["source"] or "" if "source" in row else str(number)
        ids = [_source_id(path, one.strip(), layout) for one in given.split("+") if one.strip()]
        colour = colour or to_hex(colormaps["tab20"](number % 20))
        if not re.fullmatch("#[0-9a-f]{6}", colour):
            raise InputError(f"{path}: colour '{colour}' of {name}; give one such as #8040ff")
        for one in (name, *ids):
            if one in seen:
                raise InputError(f"{path}: '{one}' of {name} stands in {seen[one]} too")
            seen[one] = name
        rows.append((name, colour, tuple(ids)))
    if not 2 <= len(rows) < IGNORE - 1:
        raise InputError(f"{path}: {len(rows)} classes; give 2 to {IGNORE - 2}")
    if not any(ids for _, _, ids in rows):
        raise InputError(f"{path}: the column 'source' is empty, so the source teaches no class")
    return tuple(rows)


def _source_id(path: Path, text: str, layout: str) -> int:
    if text.isdecimal() and int(text) < 65536:
        return int(text)
    names = {NAMES[train]: raw for raw, train in LAYOUTS[layout].train_ids.items()}
    if text not in names:
        choices = f", or a name such as {', '.join(NAMES[:3])}" if names else ""
        raise InputError(f"{path}: source '{text}': give an id of the label files{choices}")
    return names[text]


# --------------------------------------------------------------------------------------- sizes


def network_size(sizes: Sequence[tuple[int, int]], area: int) -> tuple[int, int]:
    """(height, width) of about `area` pixels with the images' median aspect, multiples of 4.

    sizes: (height, width) of the image files.
    """
    aspect = float(np.median([width / height for height, width in sizes]))
    height = (area / min(max(aspect, 0.25), 4)) ** 0.5
    return 4 * round(height / 4), 4 * round(area / height / 4)


def _sizes(folder: SegmentationFolder) -> list[tuple[int, int]]:
    return [folder.native_size(index) for index in range(len(folder))]


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(size) < 16 or any(side % 4 for side in size):
        raise InputError(f"--size {text}: give HEIGHTxWIDTH in multiples of 4, such as 180x240")
    return size


# ------------------------------------------------------------------------------------ pictures


def most_probable(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The class of the highest logit at a size: C x h x w -> H x W uint8.

    One class after the other: all of them at a photograph's size would need gigabytes.
    """
    best = deeplab.upsample(logits[None, :1], size)
    label = torch.zeros_like(best, dtype=torch.uint8)
    for number in range(1, len(logits)):
        one = deeplab.upsample(logits[None, number : number + 1], size)
        label[one > best] = number
        best = torch.maximum(best, one)
    return label[0, 0]


def _overlay(image: np.ndarray, label: np.ndarray, palette: np.ndarray) -> Image.Image:
    """The photograph, and beside it the same under its classes' colours."""
    height, width = label.shape
    size = (SHOWN, max(1, round(height * SHOWN / width)))
    photograph = Image.fromarray(image).resize(size)
    colours = Image.fromarray(palette[np.array(Image.fromarray(label).resize(size, 0))])
    both = Image.new("RGB", (2 * SHOWN, size[1]))
    both.paste(photograph)
    both.paste(Image.blend(photograph, colours, 0.55), (SHOWN, 0))
    return both


def _shares(label: np.ndarray, names: tuple[str, ...]) -> str:
    """ "road 41 %, sky 20 %": the classes of at least a hundredth of an image."""
    shares = np.bincount(label.reshape(-1), minlength=len(names)) / label.size
    order = [index for index in np.argsort(-shares) if shares[index] >= 0.01]
    return ", ".join(f"{names[index]} {100 * shares[index]:.0f} %" for index in order)


def _title(project: Project) -> str:
    method, classes = METHODS[project.method].title, len(classes_of(project.config.data))
    stages = f"{project.stages} stage{'s' if project.stages > 1 else ''}"
    return f"Project {project.folder.name}: {method}, {classes} classes, {stages}"


def _shell(path: Path) -> str:
    """A path as it is typed into a terminal."""
    return f'"{path}"' if os.name == "nt" else shlex.quote(str(path))
