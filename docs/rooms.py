"""Draw the rooms of the house, as pyproject.toml has them and with the lines that they hold today.

python docs/rooms.py    # draws docs/rooms.svg anew
"""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "rooms.svg"
PROGRAMS = (
    "train.py",
    "sample.py",
    "serve.py",
    "export.py",
    "bench.py",
    "eval/score.py",
    "eval/report.py",
    "eval/runs.py",
    "eval/ui.py",
    "data/prepare.py",
)
CHOSEN = {"tasks", "models", "optimizers"}  # what conf/ chooses among
WIDTH, HEIGHT, GAP = 9.2, 0.62, 0.16


def floors() -> list[list[str]]:
    """The rooms of each floor, from the top down: the contract that `make lint` keeps."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    found = [[room.strip() for room in layer.split("|")] for layer in layers]
    return [floor for floor in found if (ROOT / "cleangpt" / floor[0]).is_dir()]  # the programs are drawn above


def lines(room: str) -> int:
    return sum(len(path.read_text().splitlines()) for path in (ROOT / "cleangpt" / room).rglob("*.py"))


def purpose(room: str) -> str:
    """The first sentence of a room's docstring."""
    told = ast.get_docstring(ast.parse((ROOT / "cleangpt" / room / "__init__.py").read_text())) or ""
    return told.partition("\n")[0].partition(". ")[0].rstrip(".:")


def draw() -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.patches import FancyBboxPatch

    pyplot.rcParams |= {"svg.hashsalt": "rooms", "svg.fonttype": "none", "font.family": "sans-serif"}
    every = floors()
    figure, axes = pyplot.subplots(figsize=(10.4, 0.78 * (len(every) + 1)))

    def box(left: float, bottom: float, width: float, title: str, text: str, colour: str) -> None:
        shape = FancyBboxPatch((left, bottom), width, HEIGHT, "round,pad=0,rounding_size=0.08", fc=colour, ec="#5b6470")
        axes.add_patch(shape)
        axes.text(left + 0.14, bottom + HEIGHT * 0.62, title, fontsize=11, fontweight="bold", va="center")
        axes.text(left + 0.14, bottom + HEIGHT * 0.25, text, fontsize=7.6, va="center", color="#333333")

    top = len(every) * (HEIGHT + GAP)
    box(0, top, WIDTH, "programs", " · ".join(PROGRAMS), "#ffffff")
    for number, floor in enumerate(every):
        bottom = top - (number + 1) * (HEIGHT + GAP)
        width = (WIDTH - GAP * (len(floor) - 1)) / len(floor)
        for place, room in enumerate(floor):
            colour = "#fde9c9" if room in CHOSEN else "#dbe9f6" if room == "config" else "#f3f5f7"
            box(place * (width + GAP), bottom, width, f"{room}/", purpose(room), colour)
            axes.text(
                place * (width + GAP) + width - 0.12,
                bottom + HEIGHT * 0.64,
                f"{round(lines(room), -2):,} lines",
                fontsize=7.6,
                ha="right",
                va="center",
                color="#777777",
            )
    arrow = {"arrowstyle": "-|>", "color": "#5b6470", "lw": 1.4}
    axes.annotate("", (WIDTH + 0.35, 0.05), (WIDTH + 0.35, top + HEIGHT), arrowprops=arrow)
    axes.text(WIDTH + 0.5, top / 2, "imports run down", rotation=270, va="center", fontsize=9, color="#5b6470")
    axes.set_xlim(-0.05, WIDTH + 0.8)
    axes.set_ylim(-0.1, top + HEIGHT + 0.1)
    axes.axis("off")
    figure.savefig(PICTURE, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    draw()
    print(PICTURE.relative_to(ROOT))
