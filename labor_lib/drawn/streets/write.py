"""Sets of scenes on disk, in the published folder layouts of GTA5 and Cityscapes."""

import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock
from PIL import Image
from tqdm.auto import tqdm

from labor_lib.drawn.streets.look import DEFAULT_GAP, DEFAULT_SIZE, LABEL_COLOURS
from labor_lib.drawn.streets.scene import draw_scene
from labor_lib.errors import InputError

Job = tuple[str, int]  # a split and the number of its image

# The scene numbers of each split. They never overlap, so no scene is drawn in two splits.
SPLITS = {
    "source": range(0, 1_000_000),
    "train": range(1_000_000, 2_000_000),
    "val": range(2_000_000, 3_000_000),
    "test": range(3_000_000, 4_000_000),
}


@dataclass(frozen=True)
class StreetsConfig:
    """All that decides the pixels of a set; kept in its streets.json."""

    scene_seed: int = 0
    size: tuple[int, int] = DEFAULT_SIZE  # height, width
    gap: float = DEFAULT_GAP
    source: int = 400  # images of each split
    train: int = 300
    val: int = 60
    test: int = 100
    version: int = 1  # of the drawing; raised whenever the same seed gives other pixels

    def check(self) -> None:
        """Raises InputError for a setting that cannot be drawn."""
        checks = {
            "size": len(self.size) == 2 and min(self.size) >= 16,
            "gap": 0 <= self.gap <= 1,
            "scene_seed": 0 <= self.scene_seed < 2**32,
        } | {split: 0 <= getattr(self, split) <= len(SPLITS[split]) for split in SPLITS}
        for name, right in checks.items():
            if not right:
                raise InputError(
                    f"{name} {getattr(self, name)}: give a size of at least 16 x 16 pixels, a gap "
                    "from 0 to 1, a scene seed from 0 to 2**32 - 1 and up to 1,000,000 images"
                )


def _image_paths(split: str, number: int) -> tuple[Path, Path]:
    """Where image `number` (from 0) of a split and its labels lie below the root."""
    if split == "source":
        name = f"{number + 1:05d}.png"
        return Path("gta5/images", name), Path("gta5/labels", name)
    stem = f"camera_{number + 1:06d}_000019"
    return (
        Path("cityscapes/leftImg8bit", split, "camera", f"{stem}_leftImg8bit.png"),
        Path("cityscapes/gtFine", split, "camera", f"{stem}_gtFine_labelIds.png"),
    )


def _write_scene(root: Path, config: StreetsConfig, job: Job) -> None:
    """Draw one scene and write its two files. Runs in the workers."""
    split, number = job
    domain = "game" if split == "source" else "camera"
    seed = (config.scene_seed, SPLITS[split][number])
    image, labels = draw_scene(domain, seed, config.size, config.gap)
    image_path, label_path = (root / path for path in _image_paths(split, number))
    Image.fromarray(image).save(image_path, compress_level=1)
    label_image = Image.fromarray(labels)
    if split == "source":  # GTA5's label files are palette PNGs
        label_image = Image.frombytes("P", label_image.size, labels.tobytes())
        label_image.putpalette([channel for colour in LABEL_COLOURS for channel in colour])
    label_image.save(label_path, compress_level=1)


def _end_with_parent() -> None:
    """A worker ends when the process that started it is killed."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _done(write: Callable[[Job], None], jobs: Iterable[Job], workers: int) -> Iterator[None]:
    """Write all scenes; yields once for each."""
    if workers <= 1:
        yield from map(write, jobs)
        return
    # "spawn" starts clean workers on every system, and never copies a parent's GPU or threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            yield from pool.map(write, jobs, chunksize=8)
        except BrokenProcessPool:
            raise InputError(
                "workers could not draw the streets: pass workers=1, or call write_streets "
                "below `if __name__ == '__main__':`"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _finished(root: Path, config: StreetsConfig) -> bool:
    """Whether root holds this very set; raises InputError where it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = root / "streets.json"
    if not record.is_file():
        raise InputError(f"{root} holds something else: choose another folder or empty it")
    found = json.loads(record.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(asdict(config)))
    differs = [f"{k} is {found[k]} there, {v} here" for k, v in wanted.items() if found[k] != v]
    if differs:
        raise InputError(
            f"{root} holds streets drawn otherwise ({'; '.join(differs)}): choose another folder "
            "or delete it"
        )
    return True


def write_streets(
    root: Path, *, workers: int | None = None, progress: bool = True, **settings
) -> tuple[Path, Path]:
    """Draw a set of streets below root, unless it is there; return (source root, target root).

    settings  fields of `StreetsConfig`: scene_seed, size, gap and the images of each split
    workers   processes, by default one per core; they change the time, never a pixel

    The source lies in `gta5/` in the layout of GTA5, the target in `cityscapes/` in that of
    Cityscapes. The set appears under its name only when it is complete. Raises InputError for a
    setting that cannot be drawn, and where root holds anything else.
    """
    root, config = Path(root), StreetsConfig(**settings)
    config.check()
    if not _finished(root, config):
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):  # another process waits, then finds it
            if not _finished(root, config):
                _draw(root, config, workers, progress)
    return root / "gta5", root / "cityscapes"


def _draw(root: Path, config: StreetsConfig, workers: int | None, progress: bool) -> None:
    jobs = [(split, number) for split in SPLITS for number in range(getattr(config, split))]
    if workers is None:  # a worker takes a while to start, so few images are drawn right here
        workers = min(os.cpu_count() or 1, 1 + len(jobs) // 100)
    drawing = root.with_name(f".{root.name}.drawing")
    shutil.rmtree(drawing, ignore_errors=True)  # of a process that was killed
    try:
        for split in SPLITS:
            for path in _image_paths(split, 0):
                (drawing / path).parent.mkdir(parents=True, exist_ok=True)
        for _ in tqdm(
            _done(partial(_write_scene, drawing, config), jobs, workers),
            total=len(jobs),
            desc="drawing streets",
            unit="image",
            disable=not progress,
            leave="ipykernel" not in sys.modules,  # in a notebook it vanishes when done
        ):
            pass
        record = json.dumps(asdict(config), indent=2) + "\n"
        (drawing / "streets.json").write_text(record, encoding="utf-8")
        if root.exists():
            root.rmdir()  # an empty folder: some systems would not rename onto it
        drawing.rename(root)
    finally:
        shutil.rmtree(drawing, ignore_errors=True)
