"""A comparison as one page that opens from a disk, needs nothing else, and asks no network for anything."""

import re
import time
from html import escape
from pathlib import Path

from cleangpt.report.compare import Comparison
from cleangpt.report.differences import show
from cleangpt.report.draw import OTHERS, Picture, colours
from cleangpt.report.tables import Table
from cleangpt.report.words import findings, not_alike, remarks, statuses

TEMPLATE = Path(__file__).with_name("page.html")


def page(found: Comparison, groups: Table, runs: Table, pictures: list[Picture], title: str, files: list[str]) -> str:
    """Fill in page.html."""
    shades, winner = colours(found), found.winner()
    best = next((n for n, group in enumerate(found.groups) if group is winner), None)
    parts = {
        "title": escape(title),
        "about": escape(f"{statuses(found)} Made {time.strftime('%Y-%m-%d %H:%M')}."),
        "findings": _paragraph(not_alike(found)) + _paragraph(findings(found)),
        "keys": _keys(found),
        "groups": _table(groups, "groups", shades, best, "Settings, over their seeds"),
        "runs": _table(runs, "runs", shades, best, "Runs"),
        "legend": _legend(found, shades),
        "pictures": "\n".join(_figure(picture) for picture in pictures),
        "notes": _list(remarks(found)),
        "common": _list([f"{name} = {show(value)}" for name, value in found.common.items()]),
        "files": ", ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in files),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], TEMPLATE.read_text(encoding="utf-8"))


def _paragraph(sentences: list[str]) -> str:
    return f"<p>{' '.join(map(escape, sentences))}</p>" if sentences else ""


def _list(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else "<p>None.</p>"


def _keys(found: Comparison) -> str:
    if not found.keys:
        return "<p>Nothing but the seed differs between the configurations.</p>"
    lines = []
    for key in found.keys:
        values = dict.fromkeys(show(group.values[key.name]) for group in found.groups)
        shown = ", ".join(list(values)[:12]) + (f" … ({len(values)} values)" if len(values) > 12 else "")
        along = f"; with it {', '.join(key.followers)}" if key.followers else ""
        lines.append(f"<li><code>{escape(key.name)}</code>: {escape(shown)}<small>{escape(along)}</small></li>")
    return f"<ul>{''.join(lines)}</ul>"


def _table(table: Table, name: str, shades: list[str], best: int | None, caption: str) -> str:
    kinds = [' class="number"' if numeric else "" for numeric in table.numeric]
    titles = [f'{kind}><button type="button">{escape(title)}' for kind, title in zip(kinds, table.titles, strict=True)]
    heads = "".join(f'<th scope="col"{title}</button></th>' for title in titles)
    rows = ""
    for cells, group in zip(table.rows, table.groups, strict=True):
        best_row = ' class="best"' if name == "groups" and group == best else ""
        rows += f'<tr data-group="{"" if group is None else group}"{best_row}>'
        mark = "" if group is None else _shade(shades[group])
        for cell, kind in zip(cells, kinds, strict=True):
            sorted_by = "" if cell.value is None else str(cell.value)
            rows += f'<td{kind} data-value="{escape(sorted_by)}">{mark}{escape(cell.text)}</td>'
            mark = ""  # in the first cell only
        rows += "</tr>"
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table id="{name}">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _shade(colour: str) -> str:
    return f'<i class="shade" style="background:{colour}"></i>'


def _legend(found: Comparison, shades: list[str]) -> str:
    if len(found.groups) < 2:
        return ""
    named = [(n, shade) for n, shade in enumerate(shades) if shade != OTHERS]
    labels = [escape(group.label) for group in found.groups]
    inner = "".join(f'<span data-group="{n}">{_shade(shade)}{labels[n]}</span>' for n, shade in named)
    more = len(found.groups) - len(named)
    others = f"<span>{_shade(OTHERS)}{more} others</span>" if more else ""
    return f'<div class="legend">{inner}{others}</div>'


def _figure(picture: Picture) -> str:
    title = escape(picture.title)
    svgs = "".join(svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1) for svg in picture.svgs)
    several = "three" if len(picture.svgs) > 1 else "one"
    return (
        f'<figure class="{several}"><h3>{title}</h3><div>{svgs}</div>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )
