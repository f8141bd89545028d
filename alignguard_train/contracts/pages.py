"""Templates of the HTML pages that rooms write."""

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined, select_autoescape


def templates(package: str) -> Environment:
    """The HTML templates in a package's folder ``templates``."""
    return environment(PackageLoader(package, "templates"))


def environment(loader: BaseLoader, *, escape: bool = True) -> Environment:
    """Templates in which a name without a value is an error.

    Args:
        loader: where they are.
        escape: False for templates of Markdown.

    Returns:
        The environment.
    """
    return Environment(
        loader=loader,
        autoescape=select_autoescape(default=True) if escape else False,  # noqa: S701 - Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
