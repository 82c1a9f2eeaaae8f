"""Seconds of one selection, beside the straightforward greedy loop, for the same pixels.

    python -m benchmarks.selection [--size 1024 2048 --rounds 1 --extrapolate]

On one core, from smooth random probabilities of 19 classes to positions. RIPU's rules stand beside
a loop that convolves the one-hot prediction with a window of ones and searches the whole image for
its highest score, once for every choice; the other rules stand alone. Processor time, so that other
work on the machine counts less; of ours the median of three. The defaults take a minute. At 1024 x
2048 the loop's points take minutes a round, nearly all of it in one convolution over the classes;
`--extrapolate` convolves one class and counts its time once for each class.
"""

import argparse
import math
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from labor_lib.selection.candidates import near
from labor_lib.selection.rules import COMPARE, RULES, Candidates

CLASSES = 19
PIXELS = 0.022  # of an image, in five rounds
POINTS = math.ceil(40 / 5 / (1280 * 640) * 2048 * 1024)  # a round, as RIPU's code counts


def probabilities(size: tuple[int, int], maps: int, noise: float = 0.15) -> list[Tensor]:
    """Smooth maps that differ a little: each C x H x W."""
    generator = Generator().manual_seed(0)

    def smooth(step):
        shape = (1, CLASSES, size[0] // step, size[1] // step)
        return F.interpolate(torch.randn(shape, generator=generator), size, mode="bilinear")[0]

    # without a little of every pixel's own, rows at the border would be equal, and so their scores
    shared = 3 * smooth(16) + 0.01 * torch.randn(CLASSES, *size, generator=generator)
    return [(shared + noise * smooth(8)).softmax(dim=0) for _ in range(maps)]


def window_counts(values: Tensor, radius: int) -> Tensor:
    """Sums over dense windows: C x H x W."""
    ones = torch.ones(len(values), 1, 2 * radius + 1, 2 * radius + 1)
    return F.conv2d(values[None], ones, padding=radius, groups=len(values))[0]


def extrapolated_seconds(probs: Tensor, radius: int, choices: int) -> float:
    """Of the loop's convolution, from one class of all, and of its searches."""
    one_class = (probs.argmax(dim=0) == 0).float()[None]
    convolution, _ = seconds(lambda: window_counts(one_class, radius))
    search, _ = seconds(lambda: probs[0].max(dim=0)[0].argmax())
    return CLASSES * convolution + choices * search


def loop(probs: Tensor, blanked: Tensor, choices: int, radius: int, regions: bool) -> list[int]:
    """Greedy selection written out; `blanked` is changed in place. Returns the centres."""
    entropy = -(probs * (probs + 1e-6).log()).sum(dim=0)
    one_hot = F.one_hot(probs.argmax(dim=0), CLASSES).permute(2, 0, 1).float()
    counts = window_counts(one_hot, radius)
    sizes = counts.sum(dim=0)
    shares = counts / sizes
    score = -(shares * (shares + 1e-6).log()).sum(dim=0)
    score *= window_counts(entropy[None], radius)[0] / sizes if regions else entropy
    score[blanked] = -torch.inf
    reach, found = radius * (2 if regions else 1), []
    for _ in range(choices):
        columns, rows = score.max(dim=0)
        column = int(columns.argmax())
        row = int(rows[column])
        part = (
            slice(max(row - reach, 0), row + reach + 1),
            slice(max(column - reach, 0), column + reach + 1),
        )
        score[part] = -torch.inf
        blanked[part] = True
        found.append(row * probs.shape[2] + column)
    return found


def seconds(action: Callable) -> tuple[float, object]:
    started = time.process_time()
    result = action()
    return time.process_time() - started, result


def median_seconds(rule: str, make: Callable[[], Candidates]) -> tuple[float, Tensor]:
    times, results = zip(*(seconds(lambda: RULES[rule](make())) for _ in range(3)), strict=True)
    return statistics.median(times), results[0]


def beside_the_loop(size: tuple[int, int], rounds: int, extrapolate: bool) -> None:
    (probs,) = probabilities(size, 1)
    print("| rule | pixels | ours, s | greedy loop, s | times faster | pixels that differ |")
    print("|---|---|---|---|---|---|")
    for rule in ("ripu_points", "ripu_regions"):
        regions = rule == "ripu_regions"
        radius = 1 if regions else max(1, round(32 * size[1] / 2048))
        choices = math.ceil(PIXELS * size[0] * size[1] / 5 / 9) if regions else POINTS
        taken, blanked = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
        if extrapolate and not regions:
            theirs = extrapolated_seconds(probs, radius, choices)
            ours, _ = median_seconds(rule, lambda: Candidates(probs, probs, choices, taken))  # noqa: B023
            row = f"{ours:.2f} | {theirs:.0f}, extrapolated | {theirs / ours:.0f} | not compared"
            print(f"| {rule} | {choices} | {row} |", flush=True)
            continue
        ours, theirs, differ = [], [], 0
        for _ in range(rounds):
            spent, centres = seconds(lambda: loop(probs, blanked, choices, radius, regions))  # noqa: B023
            theirs.append(spent)
            expected = torch.zeros(size, dtype=torch.bool)
            expected.view(-1)[centres] = True
            if regions:
                expected = near(expected, radius)
            budget = int(expected.sum())
            spent, asked = median_seconds(rule, lambda: Candidates(probs, probs, budget, taken))  # noqa: B023
            ours.append(spent)
            found = torch.zeros(size, dtype=torch.bool)
            found.view(-1)[asked] = True
            differ += int((found != expected).sum())
            taken |= expected
        print(
            f"| {rule} | {int(taken.sum())} | {sum(ours):.2f} | {sum(theirs):.1f} "
            f"| {sum(theirs) / sum(ours):.0f} | {differ} |",
            flush=True,
        )


def alone(size: tuple[int, int]) -> None:
    first, second = probabilities(size, 2)
    share = Candidates(first, second, 1).mask.float().mean()
    means = first.mean(dim=(1, 2))
    features = torch.randn(64, size[0] // 8, size[1] // 8, generator=Generator().manual_seed(0))
    print(f"\nThe mask of the rules that have one: {100 * share:.1f} % of the image.\n")
    print("| rule | pixels | s |")
    print("|---|---|---|")
    for rule in RULES:
        points = "points" in rule or rule.startswith("ppl") or rule == "core_set"
        budget = POINTS if points else round(PIXELS * size[0] * size[1] / 5)

        def make(rule=rule, budget=budget):
            two = second if rule in COMPARE else first
            return Candidates(
                first, two, budget, generator=Generator().manual_seed(0),
                compute_features=lambda: features, compute_class_means=lambda: means,
            )  # fmt: skip

        spent, asked = median_seconds(rule, make)
        print(f"| {rule} | {len(asked)} | {spent:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), help="height and width")
    parser.add_argument("--rounds", type=int, default=5, help="of five, beside the loop")
    parser.add_argument("--extrapolate", action="store_true", help="the loop's time for points")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = tuple(options.size)
    print(f"torch {torch.__version__}, {platform.machine()}, one thread, ", end="")
    print(f"{size[0]} x {size[1]}, {CLASSES} classes, {options.rounds} of five rounds\n")
    beside_the_loop(size, options.rounds, options.extrapolate)
    alone(size)


if __name__ == "__main__":
    main()
