"""Who answers: the oracle, one that errs as people do, or people, whose answers a store keeps."""

from pathlib import Path

from labor_lib.errors import InputError


def read_annotator(text: str) -> tuple[str, Path | None]:
    """ "oracle", "noisy", or "noisy:PATH" or "store:PATH" with their paths; raises InputError for
    anything else."""
    kind, _, path = text.partition(":")
    if kind in ("store", "noisy") and path.strip():
        return kind, Path(path)
    if text in ("oracle", "noisy"):
        return text, None
    raise InputError(
        f"annotator '{text}': choose oracle, noisy, noisy:PATH with a file of its parameters, or "
        "store:PATH with the path of a store"
    )


def read_noise(text: str):
    """The `NoiseConfig` of "noisy" or "noisy:PATH"; None for other annotators. Raises InputError
    where the file is missing or another."""
    from labor_lib.annotation.noisy import NoiseConfig

    kind, path = read_annotator(text)
    if kind != "noisy":
        return None
    return NoiseConfig.load(path) if path else NoiseConfig()


def annotator_name(text: str, out: Path) -> str:
    """How config.json calls it: a store inside the run folder may move with the folder; what a
    noisy annotator's file says stands beside it."""
    kind, path = read_annotator(text)
    if kind == "noisy" or path is None:
        return kind
    path, out = path.resolve(), Path(out).resolve()
    inside = path.is_relative_to(out)
    return f"{kind}:{(path.relative_to(out) if inside else path).as_posix()}"


def open_annotator(text: str, oracle, images, class_set, held_out: float = 0.0):
    """The annotator that a run asks. oracle: for what needs the truth. images: the reader of the
    asked split. class_set: of a store, which is made where it is missing. held_out: share of the
    questions to people that is kept aside.

    Raises InputError for a store of other classes and whatever is wrong with its file.
    """
    kind, path = read_annotator(text)
    if kind == "oracle":
        return oracle
    if kind == "noisy":
        from labor_lib.annotation.noisy import NoisyAnnotator

        return NoisyAnnotator(oracle, len(class_set), read_noise(text))
    from labor_lib.annotation.store import Store, StoreAnnotator

    if path.exists() and path.stat().st_size:
        store = Store(path)
    else:
        store = Store.create(path, class_set.names, class_set.palette)
    if store.classes != class_set.names:
        raise InputError(
            f"{path}: a store of the classes {', '.join(store.classes)}; the run has "
            f"{', '.join(class_set.names)}; give another store"
        )
    return StoreAnnotator(store, images, held_out)
