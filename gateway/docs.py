"""Write the pages of ``docs/`` that come from the code: ``python -m gateway.docs`` in the project's folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from gateway.cli.page import cli_page
from gateway.problems import errors_page

__all__ = ["PAGES", "main"]

PAGES: dict[str, Callable[[], str]] = {"cli.md": cli_page, "errors.md": errors_page}
"""Page by its file's name."""


def main(folder: Path) -> None:
    """Write every page into a folder."""
    for name, make in PAGES.items():
        (folder / name).write_text(make(), encoding="utf-8")
        sys.stdout.write(f"{folder / name}\n")


if __name__ == "__main__":
    main(Path("docs"))
