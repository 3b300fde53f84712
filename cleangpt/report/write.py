"""The files that a report leaves, and the words that it says on the console."""

from pathlib import Path

from rich.markup import escape

from cleangpt.basics import files
from cleangpt.basics.errors import UserError
from cleangpt.basics.shown import visible
from cleangpt.disk.rundir import RunDir, leads_out
from cleangpt.report import collect, tables
from cleangpt.report.compare import Comparison
from cleangpt.report.tables import plain
from cleangpt.report.words import findings, not_alike, remarks, statuses
from cleangpt.terminal.narrow import Table

PAGE, MARKDOWN, RUNS, GROUPS = "report.html", "report.md", "runs.csv", "groups.csv"

BRIEF = ("seeds", "95% interval", "time")  # the columns of the console, beside the keys and the value that judges
ROWS = 40


def folder_for(paths: list[Path], out: str | None) -> Path:
    """Choose the folder of a report: the one that was asked for, or report/ in the folder around the runs."""
    if out is not None:
        return Path(out)
    around = collect.common_folder(paths)
    if around == Path(around.anchor):
        raise UserError("the runs have no folder in common: say with out= where the report is to be")
    if leads_out(around / "report", around):
        raise UserError(f"{around / 'report'} is a link that leads elsewhere: say with out= where the report is to be")
    return Path(RunDir(around).shown()) / "report"


def write(found: Comparison, out: Path, title: str | None) -> list[Path]:
    """Write the page, its tables and its pictures, and return their paths."""
    from cleangpt.report.draw import draw
    from cleangpt.report.page import page

    title = title or collect.common_folder([run.path for run in found.runs]).name
    out.mkdir(parents=True, exist_ok=True)
    groups, runs = tables.of_groups(found), tables.of_runs(found)
    pictures = draw(found, out)
    said = [f"# {plain(title)}", *map(plain, [statuses(found), *not_alike(found), *findings(found)])]
    said += ["## Settings", tables.markdown(groups), "## Runs", tables.markdown(runs)]
    said += ["## Notes", *(f"- {plain(note)}" for note in remarks(found))] if remarks(found) else []
    for picture in pictures:
        said += [f"![{plain(picture.title)}]({picture.png.name})", plain(picture.caption)]
    texts = {
        PAGE: page(found, groups, runs, pictures, title, [MARKDOWN, RUNS, GROUPS]),
        MARKDOWN: "\n\n".join(said) + "\n",
        RUNS: tables.runs_csv(found),
        GROUPS: tables.groups_csv(found),
    }
    for name, text in texts.items():
        files.write_text(out / name, visible(text))
    return [*(out / name for name in texts), *(picture.png for picture in pictures)]


def spoken(found: Comparison) -> list[Table | str]:
    """Say the settings in short, what they show, and what is to be said of single runs."""
    groups = tables.of_groups(found)
    brief = (*BRIEF, f"final {found.metric.name}")
    columns = [n for n, title in enumerate(groups.titles) if n < (len(found.keys) or 1) or title in brief]
    shown = Table(title=statuses(found), title_justify="left", title_style="")
    for n in columns:
        title = found.keys[n].label if n < len(found.keys) else groups.titles[n]
        shown.add_column(escape(title), justify="right" if groups.numeric[n] else "left", overflow="fold")
    for row in groups.rows[:ROWS]:
        shown.add_row(*(escape(row[n].text) for n in columns))
    if len(groups.rows) > ROWS:
        shown.caption = f"and {len(groups.rows) - ROWS} more settings in {PAGE}"
    return [shown, *not_alike(found), *findings(found), *remarks(found)]
