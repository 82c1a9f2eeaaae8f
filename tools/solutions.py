"""Run solutions one after another in this process, which imports the libraries once.

    LABOR_RUN=small python -m tools.solutions notebooks/solutions/0*.ipynb

Prints the traceback of the first cell that raises, and ends there with 1. The runs that solutions
open are small ones that the notebooks have trained, or are trained here. Where tests/exercises/
has forms of a notebook's answers, right and wrong ones, its checks have to tell them apart.
"""

import os
import re
import sys
import tomllib
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

FORMS = Path(__file__).parents[1] / "tests" / "exercises"


def exercises(stem: str) -> dict[int, dict]:
    """What tests/exercises/ has of a notebook, by the number of the exercise."""
    path = FORMS / f"{stem}.toml"
    if not path.exists():
        return {}
    return {e["number"]: e for e in tomllib.loads(path.read_text("utf-8"))["exercise"]}


def refusal(namespace: dict, check: str, form: str) -> Exception | None:
    """What the check raises where `form` defines the answer; the namespace stays as it was."""
    before = dict(namespace)
    try:
        exec(form, namespace)
        namespace[check]()
    except Exception as error:
        return error
    finally:
        namespace.clear()
        namespace.update(before)


def misjudged(namespace: dict, exercise: dict) -> list[str]:
    """The forms that the check judges wrongly, and how. Open is not wrong, nor is a typo."""
    found = []
    for form in exercise["right"]:
        if error := refusal(namespace, exercise["check"], form):
            found.append(f"rejects a right form ({error!r}):\n{form}")
    for form in exercise["wrong"]:
        error = refusal(namespace, exercise["check"], form)
        if error is None or isinstance(error, (NotImplementedError, NameError)):
            found.append(f"does not reject a wrong form ({error!r}):\n{form}")
    return found


def main(paths: list[str]) -> int:
    shell = InteractiveShell.instance()
    for path in [Path(path).resolve() for path in paths]:
        os.chdir(path.parent)
        shell.reset(new_session=False)  # nothing of the solution before
        shell.user_ns["__spec__"] = None  # processes that draw images look for it
        forms = exercises(path.stem)
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code":
                continue
            with capture_output() as printed:
                well = shell.run_cell(cell.source).success
            if not well:
                print(f"{path.name}:\n{cell.source}\n{printed.stdout}")
                return 1
            for number in map(int, re.findall(r"(?m)^check\((\d+),", cell.source)):
                with capture_output():
                    faults = misjudged(shell.user_ns, forms[number]) if number in forms else []
                for fault in faults:
                    print(f"{path.name}, exercise {number}: the check {fault}")
                if faults:
                    return 1
        print(f"{path.name}: right", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
