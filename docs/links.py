"""mkdocs hook: pages that are files of the checkout, and links that lead to such files.

On a code host the links of docs/*.md lead to files; in the site they lead to the pages of these.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: Pages that show a file outside docs/.
SHOWN = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "bundled-grids.md": "grids/README.md",
}
#: Files that are no page, and the page that is nearest.
NEAREST = {"README.md": "index.md", "examples/cluster": "studies.md"}
_LINK = re.compile(r"\]\((?!\w+:|#)(?P<path>[^)#\s]+)(?P<anchor>#[\w-]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page, or the file it shows, with links to pages of the site."""
    here = page.file.src_uri
    source = SHOWN.get(here, f"docs/{here}")
    text = (ROOT / source).read_text(encoding="utf-8") if here in SHOWN else markdown

    def site(link: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
        target = page_of(file)
        if target is None:
            return link[0]
        to = posixpath.relpath(target, posixpath.dirname(here) or ".")
        return f"]({to}{link['anchor'] or ''})"

    return _LINK.sub(site, text)


def page_of(file: str) -> str | None:
    """The page of a file of the checkout, below docs/; None if there is none."""
    shown = {path: page for page, path in SHOWN.items()} | NEAREST
    if file in shown:
        return shown[file]
    if file.startswith("examples"):
        return f"gallery/{Path(file).stem}.md" if file.endswith(".py") else "gallery/index.md"
    return file.removeprefix("docs/") if file.startswith("docs/") else None
