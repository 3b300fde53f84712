"""Have Hydra look for configuration in a folder of the user's own first, whose files come before ours.

Hydra's own --config-dir only adds files, behind ours.
"""

import os

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from cleangpt.config import composition


class OwnFirst(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if composition.own is not None:
            search_path.prepend("own", f"file://{os.path.abspath(composition.own)}")
