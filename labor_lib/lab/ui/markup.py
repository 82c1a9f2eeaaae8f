"""The guide's texts in HTML. Whatever comes from outside is escaped."""

import html
from collections.abc import Iterable

from labor_lib.lab.ui import guide


def value_table(lines: Iterable[tuple[str, str]]) -> str:
    """Names and values as an HTML table."""
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left; font-weight:normal; padding-right:14px">'
        f'{html.escape(name)}</th><td style="text-align:right; font-weight:600">'
        f"{html.escape(value)}</td></tr>"
        for name, value in lines
    )
    return f'<table style="line-height:1.6; border-collapse:collapse">{rows}</table>'


def _notebook_links(names: Iterable[str]) -> str:
    return ", ".join(
        f'<a href="{html.escape(name)}.ipynb" target="_blank" style="text-decoration:underline">'
        f"{html.escape(name)}</a>"
        for name in names
    )


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
