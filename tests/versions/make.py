"""Leave a small run of today's version beside this file, for the tests, for ever.

python tests/versions/make.py
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from cleangpt.basics import files  # noqa: E402
from cleangpt.disk import migrations  # noqa: E402

OPTIONS = "device=cpu dtype=float32 model=llama_tiny model.n_layer=1 model.n_embd=8 model.n_head=1 model.n_kv_head=1"
OPTIONS += " dataset.digits=1 train.steps=6 train.batch_size=8 train.eval_every=3 train.snapshot_every=3"
OPTIONS += " train.keep_snapshots=1 logger=quiet logger.plots=false"


def main() -> None:
    here = Path(__file__).parent
    name = str(migrations.VERSION)
    command = [sys.executable, str(ROOT / "train.py"), *OPTIONS.split(), f"hydra.run.dir={name}"]
    subprocess.run(command, cwd=here, check=True)
    for path in (here / name / "train.log", here / name / "card.md", here / "outputs" / "latest"):
        path.unlink()
    (here / "outputs").rmdir()
    about = files.read_json(here / name / "run.json")
    about["machine"] |= {"host": "somewhere", "system": "Linux", "processor": "a processor"}
    files.write_json(here / name / "run.json", about)


if __name__ == "__main__":
    main()
