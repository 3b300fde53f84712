"""One command of eval/report.py: finds the runs, compares them, and writes and says what came of it."""

from cleangpt.config.programs import ReportConfig
from cleangpt.terminal import console, patience


def report(settings: ReportConfig) -> int:
    with patience.doing("Loading numpy and matplotlib"):
        from cleangpt.report import collect, write
        from cleangpt.report.compare import compare

    with patience.doing("Looking for runs"):
        paths = collect.find(settings.runs)
    out = write.folder_for(paths, settings.out)
    with patience.doing("Reading", len(paths), "runs") as progress:
        runs = collect.read(paths, progress.advance, settings.curves)
    with patience.doing("Comparing the runs"):
        found = compare(runs, settings.metric, settings.curves)
    with patience.doing("Drawing the pictures"):
        made = write.write(found, out, settings.title)
    shown = console.for_tables()
    for what in write.spoken(found):  # sentences are broken between words, on a terminal
        shown.print(what, markup=not isinstance(what, str), soft_wrap=not shown.is_terminal)
    shown.print("Written:", markup=False)
    for path in made:
        shown.print(f"    {path}", markup=False, soft_wrap=True)
    return 0
