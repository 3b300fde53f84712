"""Draw the pictures of the README and of the guide, from real runs.

make pictures    # trains what is not in outputs/pictures yet: a quarter of an hour on two cores

The pictures of a study are drawn where the runs of its commands are in outputs/sweeps (docs/study_pictures.py). The
screenshots of a report and of the page in the browser need a chromium, and stay as they are without one.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from cleangpt.basics.version import VERSION  # noqa: E402
from docs import study_pictures, terminal, ui_pictures  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
RUNS = ROOT / "outputs" / "pictures"
ADDER = "python train.py experiment=adder"
COUPLED = "python train.py experiment=position_coupling"
GRID = "sets={grid: {digits: [1, 14], lengths: pair, each: 20}}"
TOUR = "python train.py -m optimizer=adamw,muon seed=0,1,2 dataset.digits=2 train.steps=300"
Rows = list[list[terminal.Cell]]


def words(command: str, *more: str) -> list[str]:
    return [sys.executable, *command.split()[1:], *more]


def recorded(name: str, command: list[str]) -> list[Rows]:
    """The screens of a command, from the file that an earlier recording left, or by running it."""
    path = RUNS / f"{name}.json"
    if not path.exists():
        screens = terminal.record(command, ROOT)
        path.write_text(json.dumps(screens), encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    return [[[tuple(cell) for cell in row] for row in screen] for screen in found]


def train() -> dict[str, list[Rows]]:
    RUNS.mkdir(parents=True, exist_ok=True)
    run, coupled, tour = RUNS / "adder", RUNS / "coupled", RUNS / "tour"
    if not (coupled / "summary.json").exists():
        subprocess.run(words(COUPLED, f"hydra.run.dir={coupled}", "resume=auto"), cwd=ROOT, check=True)
    return {
        "train": recorded("train", words(ADDER, f"hydra.run.dir={run.relative_to(ROOT)}")),
        "score": recorded("score", words("python eval/score.py", f"run={coupled.relative_to(ROOT)}", GRID)),
        "sweep": recorded("sweep", words(TOUR, f"hydra.sweep.dir={tour.relative_to(ROOT)}")),
        "report": recorded("report", words("python eval/report.py", f"runs={tour.relative_to(ROOT)}")),
    }


# ---- the tour, which moves


def tour(screens: dict[str, list[Rows]]) -> None:
    from PIL import Image

    frames, durations = [], []
    for picture, seconds in _scenes(screens):
        frames.append(picture)
        durations.append(round(1000 * seconds))
    width, height = frames[0].size
    mosaic = Image.new("RGB", (width, height * len(frames)))  # colours of all frames
    for number, frame in enumerate(frames):
        mosaic.paste(frame, (0, number * height))
    palette = mosaic.quantize(96)
    small = [frame.quantize(palette=palette, dither=0) for frame in frames]
    path = PICTURES / "tour.gif"
    small[0].save(path, save_all=True, append_images=small[1:], duration=durations, loop=0, optimize=True)


def _scenes(screens: dict[str, list[Rows]]) -> Iterator[tuple[Any, float]]:
    from PIL import Image

    heat = _opened(RUNS / "coupled" / "score", "*grid*lengths.png")
    report = Image.open(PICTURES / "report.png").convert("RGB").crop((0, 0, 1180, 940))
    asked, compared = f"python eval/score.py run=latest '{GRID}'", "python eval/report.py runs=outputs/sweeps/tour"
    yield _beside(_typed("make train", screens["train"][-1]), heat), 1.0  # what is seen where nothing moves
    yield from _scene("make train", screens["train"], 26, 2.5)
    yield from _scene(asked, screens["score"], 3, 1.0)
    yield _beside(_typed(asked, screens["score"][-1]), heat), 4
    yield from _scene(TOUR, screens["sweep"], 16, 1.2)
    yield from _scene(compared, screens["report"], 2, 1.0)
    yield _beside(_typed(compared, screens["report"][-1]), report), 5


def _scene(command: str, screens: list[Rows], count: int, hold: float) -> Iterator[tuple[Any, float]]:
    for end in range(0, len(command) + 1, max(1, len(command) // 4)):
        yield terminal.draw(_typed(command[:end], [])), 0.09
    chosen = [screens[round(place * (len(screens) - 1) / (count - 1))] for place in range(count)]
    for screen in chosen:
        yield terminal.draw(_typed(command, screen)), 0.14
    yield terminal.draw(_typed(command, screens[-1])), hold


def _typed(command: str, screen: Rows) -> Rows:
    prompt: list[terminal.Cell] = [("$", "#98c379", True), (" ", terminal.PLAIN, False)]
    line = prompt + [(character, "#ffffff", True) for character in command]
    return [line, *screen] if len(screen) < terminal.LINES else screen


def _beside(screen: Rows, picture: Any) -> Any:
    """Lay a picture over the right of a screen, as high as it is."""
    ground = terminal.draw(screen)
    height = ground.height - 28
    small = picture.resize((round(picture.width * height / picture.height), height))
    ground.paste(small, (ground.width - small.width - 14, 14))
    return ground


def _opened(folder: Path, pattern: str) -> Any:
    from PIL import Image

    return Image.open(sorted(folder.glob(pattern))[0]).convert("RGB")


# ---- single pictures


def badges() -> dict[str, str]:
    """Write the badges of the README from what pyproject.toml and the package say, as SVG by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    first = int(project["requires-python"].removeprefix(">=3."))
    checked = re.search(r"python: \[(.*)\]", (ROOT / ".github/workflows/checks.yml").read_text(encoding="utf-8"))
    assert checked is not None
    versions = checked[1].replace('"', "").split(", ")
    assert versions[0] == f"3.{first}"
    said = {"python": " | ".join(versions), "license": project["license"], "version": VERSION}
    return {name: _badge(name, text) for name, text in said.items()}


def _badge(name: str, text: str) -> str:
    left, right = 7 * len(name) + 12, 7 * len(text) + 12
    size = f'width="{left + right}" height="20"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{name}: {text}">
<rect {size} rx="3" fill="#2f6fb0"/>
<path d="M3 0h{left - 3}v20H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3" fill="#4a525c"/>
<g fill="#fff" font-family="Verdana, DejaVu Sans, sans-serif" font-size="11" text-anchor="middle">
<text x="{left / 2}" y="14">{name}</text>
<text x="{left + right / 2}" y="14">{text}</text>
</g>
</svg>
"""


def copied() -> None:
    for folder, pattern, name in (
        (RUNS / "coupled" / "score", "*grid*lengths.png", "lengths.png"),
        (RUNS / "tour" / "report", "val_loss.png", "report_loss.png"),
    ):
        picture = _opened(folder, pattern)
        picture.quantize(128).save(PICTURES / name, optimize=True)


def screenshot() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no chromium: docs/pictures/report.png stays as it is")
        return
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.png"
        page = (RUNS / "tour" / "report" / "report.html").as_uri()
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1180,1150"]
        subprocess.run([chromium, *options, f"--screenshot={path}", page], check=True, capture_output=True)
        Image.open(path).convert("RGB").quantize(128).save(PICTURES / "report.png", optimize=True)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for name, badge in badges().items():
        (PICTURES / f"{name}.svg").write_text(badge, encoding="utf-8")
    recorded_screens = train()
    screenshot()
    tour(recorded_screens)
    copied()
    study_pictures.draw()
    ui_pictures.draw(RUNS, PICTURES)
