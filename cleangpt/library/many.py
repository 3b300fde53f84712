"""Several runs as Python sees them, and what comes of comparing them."""

import io
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from cleangpt.basics.errors import UserError
from cleangpt.basics.words import counted, listed
from cleangpt.library import shown, starting
from cleangpt.library.composing import checked
from cleangpt.library.run import Run
from cleangpt.library.shown import Picture
from cleangpt.library.words import Asked, choices, place, words

if TYPE_CHECKING:
    import pandas

    from cleangpt.report import compare as comparing
    from cleangpt.report.tables import Table

Where = str | os.PathLike[str]


class Runs(Sequence[Run]):
    """Runs, in the order of their names."""

    def __init__(self, paths: Iterable[Path]):
        self._runs = [Run.load(path) for path in paths]

    @overload
    def __getitem__(self, place: int) -> Run: ...
    @overload
    def __getitem__(self, place: slice) -> "Runs": ...
    def __getitem__(self, place: int | slice) -> "Run | Runs":
        return self._runs[place] if isinstance(place, int) else Runs(run.path for run in self._runs[place])

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __repr__(self) -> str:
        return f"Runs({[run.path.name for run in self._runs]})"

    @property
    def table(self) -> "pandas.DataFrame":
        """Tabulate them: what differs between them, their seeds, how they ended, and all their values."""
        from cleangpt.report import tables

        return shown.pandas().read_csv(io.StringIO(tables.runs_csv(compare(self)._found)))

    def _repr_html_(self) -> str:
        from cleangpt.report import tables

        return _html(tables.of_runs(compare(self)._found))


class Comparison:
    """What comes of comparing runs: settings, over their seeds."""

    def __init__(self, found: "comparing.Comparison"):
        self._found = found

    @property
    def metric(self) -> str:
        """Name what judges them."""
        return self._found.metric.name

    @property
    def groups(self) -> "pandas.DataFrame":
        """Tabulate the settings: means over seeds with their spread and interval, and when they arrived."""
        from cleangpt.report import tables

        return shown.pandas().read_csv(io.StringIO(tables.groups_csv(self._found)))

    @property
    def findings(self) -> list[str]:
        """Say what the runs show, and how surely."""
        from cleangpt.report import words

        return [words.statuses(self._found), *words.not_alike(self._found), *words.findings(self._found)]

    def plot(self, name: str | None = None, x: str = "step") -> Picture:
        """Draw a quantity along `step`, `tokens` or `seconds`: a line a setting, with its seeds as a band."""
        from cleangpt.library import drawing

        return drawing.of_comparison(self._found, name or self.metric, x)

    def write(self, out: Where, title: str | None = None) -> list[Path]:
        """Write the report: a page, its tables and its pictures."""
        from cleangpt.report import write

        return write.write(self._found, Path(out), title)

    def __repr__(self) -> str:
        return "\n".join(self.findings)

    def _repr_html_(self) -> str:
        from html import escape

        from cleangpt.report import draw, tables

        drawn = ""
        if draw.curves(self._found, self._found.metric) is not None:
            drawn = shown.picture(self.plot()._repr_png_())
        said = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.findings)
        return _html(tables.of_groups(self._found)) + said + drawn


def runs(where: Where | Sequence[Where] = "outputs") -> Runs:
    """Find the runs in a folder, or in several, or by patterns with *."""
    from cleangpt.report import collect

    places = [where] if isinstance(where, str | os.PathLike) else list(where)
    return Runs(collect.find([os.fspath(place) for place in places]))


def compare(
    asked: Run | Where | Iterable[Run | Where], metric: str | None = None, curves: Sequence[str] = ()
) -> Comparison:
    """Compare runs, judged by `metric`; `curves` are further columns to draw in a report."""
    from cleangpt.report import collect
    from cleangpt.report import compare as comparing

    several = [asked] if isinstance(asked, str | os.PathLike | Run) else list(asked)
    found = [[one] if isinstance(one, Run) else runs(one) for one in several]
    paths = list(dict.fromkeys(run.path for group in found for run in group))
    if not paths:
        raise UserError("there is nothing to compare: name some runs")
    return Comparison(comparing.compare(collect.read(paths, curves=curves), metric, curves))


def sweep(values: Mapping[str, Any], *asked: Asked, path: Where | None = None, progress: bool = True) -> Runs:
    """Train every combination of these values, in processes of their own, and return the runs.

    `values` lists the values of each key (`{"optimizer": ["adamw", "muon"], "seed": [0, 1]}`), `asked` is for all of
    them. The same call with the same `path` goes on with a sweep that was interrupted, and skips what is done.
    """
    chosen = choices(values)
    line = [*words(asked), *(f"{key}={','.join(several)}" for key, several in chosen.items())]
    if path is not None:
        line.append(f"hydra.sweep.dir={place(path)}")
    found = checked(line, of_sweep=True)
    folder = Path(found.folder).absolute()
    if path is None:
        line.append(f"hydra.sweep.dir={place(folder)}")
    starting.sweep(["-m", *line], folder, math.prod(map(len, chosen.values())), progress)
    swept = runs(folder)
    if failed := [run.path.name for run in swept if run.status == "failed"]:
        told = f"{len(failed)} of {counted(len(swept), 'run')} failed: {listed(failed, 5)}; see their train.log"
        warnings.warn(told, stacklevel=2)
    return swept


def _html(table: "Table") -> str:
    return shown.table(table.titles, [[cell.text for cell in row] for row in table.rows])
