"""The template of a study's page."""

from pathlib import Path

from jinja2 import FileSystemLoader, Template

from alignguard_train.contracts.pages import environment


def page_template(folder: Path) -> Template:
    """The Markdown template ``page.md.j2`` of a study's folder, whose last newline is kept."""
    made = environment(FileSystemLoader(folder), escape=False)
    return made.overlay(keep_trailing_newline=True).get_template("page.md.j2")
