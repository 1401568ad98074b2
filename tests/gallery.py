"""``python -m tests.gallery``: the gallery of the documents, from the examples as they run.

Names of examples after it: only these. An example whose extra is not installed keeps its page.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "gallery"
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
_WIDTH = 720  # of a picture, in points
_INTRODUCTION = """# Gallery

The examples of the checkout as they run, with what they print and draw. Those that have a setting
`--fast` ran with it. `python -m tests.gallery` makes these pages.

"""


def title(example: Path) -> str:
    """The first line of what an example says of itself."""
    text = ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0].rstrip(".:")


def pictures(example: Path) -> list[str]:
    """The files of an example's pictures."""
    return sorted(path.name for path in GALLERY.glob(f"{example.stem}_*.png"))


def page(example: Path, printed: str, seconds: float) -> str:
    """Pictures, output, code."""
    shown = "".join(f"![{title(example)}]({name})\n\n" for name in pictures(example))
    code = example.read_text(encoding="utf-8").rstrip()
    output = f"## Output\n\n```text\n{printed.rstrip()}\n```\n\n" if printed.strip() else ""
    return (
        f"# {title(example)}\n\n{shown}`examples/{example.name}`, {seconds:.0f} s.\n\n"
        f"{output}## Code\n\n```python\n{code}\n```\n"
    )


def index() -> str:
    """All examples, by picture."""
    lines = []
    for example in EXAMPLES:
        shown = "".join(f"[![{title(example)}]({name}){{width=260}}]({example.stem}.md)\n\n"
                        for name in pictures(example)[:1])  # fmt: skip
        lines.append(f"## [{title(example)}]({example.stem}.md)\n\n{shown}")
    return _INTRODUCTION + "".join(lines).rstrip() + "\n"


def run(example: Path) -> None:
    """Run an example in a folder of its own, and write its page and pictures."""
    fast = ["--fast"] if "--fast" in example.read_text(encoding="utf-8") else []
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(example), *fast],
            cwd=folder, check=False, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        if "ModuleNotFoundError" in done.stderr:
            sys.stderr.write(f"{example.name}: left as it was, {done.stderr.splitlines()[-1]}\n")
            return
        done.check_returncode()
        for number, made in enumerate(sorted(Path(folder).rglob("*.png"))[:2]):
            with Image.open(made) as picture:
                picture.thumbnail((_WIDTH, _WIDTH))
                small = picture.convert("P", palette=Image.Palette.ADAPTIVE)
                small.save(GALLERY / f"{example.stem}_{number}.png")
        printed = done.stdout.replace(folder, ".")
    written = GALLERY / f"{example.stem}.md"
    written.write_text(page(example, printed, seconds), encoding="utf-8")


def main(names: list[str]) -> None:
    """Make the pages of some examples, or of all, and the index."""
    GALLERY.mkdir(exist_ok=True)
    for example in EXAMPLES:
        if not names or example.stem in names:
            run(example)
    (GALLERY / "index.md").write_text(index(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
