"""Build what pyproject.toml describes, with conf/ inside of the package: a wheel has no top of a repository."""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConf(build_py):
    editable_mode = False  # then the package is used where it lies, and conf/ beside it

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)  # files of an earlier version would be in the wheel too
        super().run()
        if not self.editable_mode:
            for source, built in self._conf().items():
                os.makedirs(os.path.dirname(built), exist_ok=True)
                shutil.copyfile(source, built)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *({} if self.editable_mode else self._conf()).values()]

    def _conf(self) -> dict[str, str]:
        found = sorted(Path("conf").rglob("*.yaml"))
        return {str(path): os.path.join(self.build_lib, "cleangpt", *path.parts) for path in found}


setup(cmdclass={"build_py": BuildWithConf})
