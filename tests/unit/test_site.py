"""The documentation: blocks run alone and print what stands behind them; nothing is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pypsa_p2p as p2p
from tests.gallery import EXAMPLES, GALLERY
from tests.site import ROOT, blocks, pages, printed_by

BLOCKS = {
    f"{page.relative_to(ROOT)}-{number}": block
    for page in pages()
    if page.name not in ("README.md", "errata.md")  # test_docs has theirs
    for number, block in enumerate(blocks(page))
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BLOCKS)
def test_block(name: str, tmp_path: Path) -> None:
    code, text = BLOCKS[name]
    assert printed_by(code, tmp_path) == (text or "")


def test_every_public_name_has_a_place_in_the_reference() -> None:
    shown = [
        name.rsplit(".", 1)[-1]
        for page in (ROOT / "docs" / "api").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(shown) == sorted({*p2p.__all__} - {"plot"} | {"pictures"})


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_gallery_shows_every_example_as_it_is(example: Path) -> None:
    page = (GALLERY / f"{example.stem}.md").read_text(encoding="utf-8")
    assert f"```python\n{example.read_text(encoding='utf-8').rstrip()}\n```" in page
    assert f"({example.stem}.md)" in (GALLERY / "index.md").read_text(encoding="utf-8")
    assert f"gallery/{example.stem}.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
