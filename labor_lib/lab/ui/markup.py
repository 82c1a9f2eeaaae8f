"""The widgets' texts in HTML: tables, legends, bars. Whatever comes from outside is escaped."""

import html
from collections.abc import Iterable

import numpy as np

from labor_lib.lab import viz
from labor_lib.lab.ui import guide, problems, views
from labor_lib.lab.ui.views import Prototype


def value_table(lines: Iterable[tuple[str, str]]) -> str:
    """Names and values as an HTML table."""
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left; font-weight:normal; padding-right:14px">'
        f'{html.escape(name)}</th><td style="text-align:right; font-weight:600">'
        f"{html.escape(value)}</td></tr>"
        for name, value in lines
    )
    return f'<table style="line-height:1.6; border-collapse:collapse">{rows}</table>'


def legend(entries: Iterable[tuple[str, tuple, str]]) -> str:
    """Colours and their names in HTML; entries as from `views.layer_legend`."""
    items = "".join(
        f'<span style="display:inline-block; margin-right:14px"><span aria-hidden="true" style="'
        "display:inline-block; width:13px; height:13px; border:1px solid #555; margin-right:5px; "
        f"border-radius:{'50%' if kind == 'point' else '0'}; vertical-align:-2px; "
        f'background:{_background(colour, kind)}"></span>'
        f"{html.escape(name)}</span> "
        for name, colour, kind in entries
    )
    return f'<div style="line-height:1.7">{items}</div>'


def class_entries(class_set) -> list[tuple[str, tuple, str]]:
    names = zip(class_set.names, class_set.palette.tolist(), strict=True)
    return [
        *((name, tuple(colour), "class") for name, colour in names),
        ("void", (0, 0, 0), "class"),
    ]


def _background(colour: tuple, kind: str) -> str:
    rgb = "rgb({},{},{})".format(*colour)
    if kind == "error":
        return f"repeating-linear-gradient(135deg,{rgb} 0 3px,white 3px 6px)"
    if kind == "entropy":
        return "linear-gradient(90deg,#00224e,#7d7c78,#fee838)"
    return rgb


def prototype_bars(view, prototype: Prototype, class_set) -> str:
    """mu(k) as bars in HTML."""
    names = views.marked_names(view, prototype, class_set)
    rows = "".join(
        f'<tr><th scope="row" style="text-align:right; font-weight:normal; padding-right:8px">'
        f'{html.escape(name)}</th><td style="width:100%"><div style="display:flex; '
        f'align-items:center; gap:6px"><span style="display:inline-block; height:11px; '
        f"width:{80 * value:.1f}%; min-width:1px; background:{_background(colour, 'class')}"
        f'"></span>{value:.2f}</div></td></tr>'
        for name, value, colour in zip(names, prototype.mean, class_set.palette, strict=True)
    )
    title = "\u03bc(k): the mean of their probabilities"
    return (
        f'<table style="width:100%; line-height:1.25; white-space:nowrap"><caption style="'
        f'text-align:left; font-weight:600; padding-bottom:4px">{title}</caption>{rows}</table>'
    )


def heat_table(table) -> str:
    """`viz.class_heatmap` in HTML, with the spread over seeds beside the mIoU."""
    means = viz.last_scores(table)
    last = table[table["stage"] == table["stage"].max()]
    spreads = last.groupby("method")["miou"].std()
    head = "".join(
        f'<th scope="col" style="font-weight:normal; padding:6px 3px; vertical-align:bottom; '
        f"writing-mode:vertical-rl; transform:rotate(180deg); text-align:left"
        f'">{html.escape(n)}</th>'
        for n in means.columns[1:]
    )
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left; font-weight:normal; padding-right:10px">'
        f"{html.escape(viz.short_title(method))}</th>"
        + "".join(
            _heat_cell(value, spreads[method] if name == "miou" else None)
            for name, value in scores.items()
        )
        + "</tr>"
        for method, scores in means.iterrows()
    )
    title = (
        "IoU by class in %, last stage, mean over seeds; mIoU over the chosen classes "
        "\u00b1 standard deviation"
    )
    return (
        f'<div style="font-weight:600; line-height:1.4; padding:4px 0">{title}</div>'
        '<div style="overflow-x:auto"><table style="border-collapse:collapse; line-height:1.5; '
        'white-space:nowrap"><tr><td></td><th scope="col" style="vertical-align:bottom">mIoU</th>'
        f"{head}</tr>{rows}</table></div>"
    )


def _heat_cell(value: float, spread: float | None) -> str:
    """A cell; spread: None for a class, NaN with one seed."""
    back, text = viz.heat_colours(value)
    number = "\u2013" if np.isnan(value) else f"{value:.0f}"
    weight = 400
    if spread is not None and not np.isnan(value):
        number = f"{value:.1f}" + ("" if np.isnan(spread) else f" \u00b1 {spread:.1f}")
        weight = 700
    return (
        f'<td style="background:{back}; color:{text}; text-align:center; min-width:30px; '
        f'padding:0 5px; font-weight:{weight}">{number}</td>'
    )


def _notebook_links(names: Iterable[str]) -> str:
    return ", ".join(
        f'<a href="{html.escape(name)}.ipynb" target="_blank" style="text-decoration:underline">'
        f"{html.escape(name)}</a>"
        for name in names
    )


def problem_card(problem: problems.Problem) -> str:
    """A problem's name, meaning, example and notebooks."""
    links = _notebook_links(problem.notebooks)
    name = problem.name[0].upper() + problem.name[1:]
    return (
        f'<div style="line-height:1.5; max-width:900px"><div style="font-size:1.25em; '
        f'font-weight:600">{html.escape(name)}</div>{html.escape(problem.meaning)}<br>'
        f"<i>Example:</i> {html.escape(problem.example)}<br>"
        f"<i>Notebooks:</i> {links or 'none of this collection'}</div>"
    )


def problem_table(chosen: tuple[int, int]) -> str:
    """The table of the problems with a cell highlighted; chosen: its row and column."""
    head = "".join(
        f'<th scope="col" style="font-weight:600; padding:4px">{html.escape(name)}</th>'
        for name in problems.COLUMN_NAMES
    )
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left; padding:4px">{html.escape(name)}</th>'
        + "".join(_problem_cell(p.name, (i, j) == chosen) for j, p in enumerate(line))
        + "</tr>"
        for i, (name, line) in enumerate(zip(problems.ROW_NAMES, problems.table(), strict=True))
    )
    return (
        '<table style="line-height:1.35; border-collapse:separate; border-spacing:3px; '
        f'max-width:1000px; text-align:center"><tr><td></td>{head}</tr>{rows}</table>'
    )


def _problem_cell(name: str, chosen: bool) -> str:
    look = (
        "background:#0072b2; color:white; font-weight:600"
        if chosen
        else "background:#eef2f5; color:#222"
    )
    mark = ' aria-current="true"' if chosen else ""
    return f'<td{mark} style="{look}; padding:6px; width:17%">{html.escape(name)}</td>'


def advice_card(advice: guide.Advice) -> str:
    """An advice: what is to be done, why, what it is given, and where that is explained."""
    lines = [
        ("given of the target", html.escape(advice.given)),
        ("explained in", _notebook_links(advice.notebooks)),
    ]
    if advice.reading:
        lines.append(("to read", html.escape(advice.reading)))
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left; font-weight:600; padding-right:12px; '
        f'vertical-align:top; white-space:nowrap">{name}</th><td>{text}</td></tr>'
        for name, text in lines
    )
    return (
        f'<div style="line-height:1.5; max-width:700px"><div style="font-size:1.25em; '
        f'font-weight:600">{html.escape(advice.title)}</div>{html.escape(advice.why)}'
        f'<table style="line-height:1.5; margin-top:6px">{rows}</table></div>'
    )


def guide_tree(chosen: list[tuple[str, str]]) -> str:
    """The tree of `guide`, a line for each answer; chosen: the way taken, from `guide.path`."""
    lines = "".join(_guide_line(line, line.lies_on(chosen)) for line in guide.lines())
    return f'<div role="list" style="line-height:1.35; font-size:0.92em">{lines}</div>'


def _guide_line(line: guide.Line, taken: bool) -> str:
    end = html.escape(line.question)
    if line.advice:
        look = "background:#0072b2; color:white" if taken else "background:#eef2f5; color:#222"
        current = ' aria-current="true"' if taken else ""
        title = html.escape(line.advice.title)
        end = f'<span{current} style="{look}; padding:0 6px; border-radius:4px">{title}</span>'
    edge = "3px solid #0072b2" if taken else "1px solid #9a9a9a"
    return (
        f'<div role="listitem" style="margin-left:{1.3 * line.depth:.1f}em; padding:1px 6px; '
        f'border-left:{edge}; font-weight:{600 if taken else 400}">'
        f"{html.escape(line.answer)} <i>{end}</i></div>"
    )


def code_block(code: str) -> str:
    """Code that one click selects, to copy."""
    return (
        '<pre tabindex="0" aria-label="code" style="font-family:monospace; line-height:1.4; '
        "overflow-x:auto; background:#f5f5f5; color:#222; padding:8px; user-select:all; "
        "max-width:1000px"
        f'">{html.escape(code)}</pre>'
    )
