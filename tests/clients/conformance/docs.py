"""The pages quote the programs: a line that links to a file is followed by a block with its text.

    python docs.py          which quotes differ from their file, and which programs are not quoted
    python docs.py --write  brings the quotes up to date
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs/clients"
PROGRAMS = ROOT / "tests/clients/languages"
SUFFIXES = {".go", ".py", ".rb", ".rs", ".ts"}
# What is made, what is installed, and what looks at a program from outside.
APART = {"gen", "node_modules", "suites"}
# The link, the fence, the text.
QUOTE = re.compile(r"(\]\(\.\./\.\./(tests/clients/languages/[^)]+)\)[^\n]*\n\n```\w+\n)(.*?)(^```$)", re.MULTILINE | re.DOTALL)


def programs() -> set[str]:
    """Every source in a language's folder, or one folder below it."""
    found = {path.relative_to(PROGRAMS) for folders in ("*", "*/*") for path in PROGRAMS.glob(f"{folders}/*.*")}
    sources = {path for path in found if path.suffix in SUFFIXES and not APART & set(path.parts)}
    return {str((PROGRAMS / path).relative_to(ROOT)) for path in sources}


def stale() -> list[str]:
    """What is wrong, one sentence each."""
    quoted, wrong = set(), []
    for page in sorted(PAGES.glob("*.md")):
        for _, file, text, _ in QUOTE.findall(page.read_text()):
            quoted.add(file)
            if (ROOT / file).read_text() != text:
                wrong.append(f"{page.relative_to(ROOT)} quotes {file} as it was; python {Path(__file__).name} --write")
    return wrong + [f"no page quotes {file}" for file in sorted(programs() - quoted)]


def write() -> None:
    for page in PAGES.glob("*.md"):
        text = QUOTE.sub(lambda found: found[1] + (ROOT / found[2]).read_text() + found[4], page.read_text())
        page.write_text(text)


if __name__ == "__main__":
    if "--write" in sys.argv:
        write()
    for sentence in stale():
        print(sentence)
    sys.exit(bool(stale()))
