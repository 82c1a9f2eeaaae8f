"""Run solutions one after another in this process, which imports the libraries once.

    LABOR_RUN=small python -m tools.solutions notebooks/solutions/0*.ipynb

Prints the traceback of the first cell that raises, and ends there with 1. The runs that solutions
open are small ones that the notebooks have trained, or are trained here.
"""

import os
import sys
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output


def main(paths: list[str]) -> int:
    shell = InteractiveShell.instance()
    for path in [Path(path).resolve() for path in paths]:
        os.chdir(path.parent)
        shell.reset(new_session=False)  # nothing of the solution before
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code":
                continue
            with capture_output() as printed:
                well = shell.run_cell(cell.source).success
            if not well:
                print(f"{path.name}:\n{cell.source}\n{printed.stdout}")
                return 1
        print(f"{path.name}: right", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
