"""Have Hydra look for configuration in a folder of the user's own first, and in the one that only a program has.

Hydra's own --config-dir only adds files, behind ours. The groups in conf/bench/ are those of bench.py alone: `suite` is
a plain key of eval/score.py, where Hydra would take it for the group.
"""

import os

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from cleangpt.config import composition


class OurFolders(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if composition.own is not None:
            search_path.prepend("own", f"file://{os.path.abspath(composition.own)}")
        if os.path.isdir(folder := os.path.join(composition.CONF, composition.program)):
            search_path.append("program", f"file://{folder}")
