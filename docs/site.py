"""Let the guide link to files beside docs/: on the site they lead to the repository, or are plain text without one.

A hook of mkdocs; on a page of the repository the links work as they are.
"""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    docs = Path(config["docs_dir"])
    folder = (docs / page.file.src_uri).parent

    def elsewhere(found: re.Match[str]) -> str:
        text, link, anchor = found[1], found[2], found[3] or ""
        path = (folder / link).resolve()
        if "://" in link or path.is_relative_to(docs) or not path.is_relative_to(docs.parent):
            return found[0]
        if not config.get("repo_url"):
            return text
        return f"[{text}]({config['repo_url'].rstrip('/')}/blob/main/{path.relative_to(docs.parent)}{anchor})"

    return LINK.sub(elsewhere, markdown)
