"""Below an exercise: a check that says how the answer fares.

In a notebook an exercise may stay open, so `check` never raises. The solutions import `require`
in its place, which does.
"""

from collections.abc import Callable


def check(number: int, test: Callable[[], object]) -> None:
    """Run the test of an answer and print one line: open, not yet (with why), or right."""
    try:
        require(number, test)
    except NotImplementedError:
        print(f"Exercise {number} is open: write your answer above and run the cell again.")
    except Exception as error:
        why = " ".join(str(error).split()) or "the check does not hold"
        print(f"Exercise {number}, not yet ({type(error).__name__}): {why[:300]}")


def require(number: int, test: Callable[[], object]) -> None:
    """Run the test of an answer and say that it is right; raises what the test raises."""
    test()
    print(f"Exercise {number}: right.")
