"""Writes docs/rules from the rules' docstrings: `python -m trainprof.rules.write_pages`."""

from __future__ import annotations

from pathlib import Path

from trainprof.rules.catalogue import catalogue
from trainprof.rules.pages import index, page

FOLDER = Path("docs", "rules")


def pages() -> dict[str, str]:
    """Every file of docs/rules and its text."""
    files = {f"{rule.id}.md": page(rule) for rule in catalogue()}
    return {"README.md": index(catalogue()), **files}


def main(folder: Path = FOLDER) -> None:
    """Writes the files that changed, removes pages of rules that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for path in folder.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
