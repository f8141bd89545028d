"""Descriptions of columns: the string under a record's field, for the UI, cards and the docs.

The strings are not part of the Arrow schema, so changing one makes nothing stale.
"""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from functools import cache


@cache
def meanings(record: type) -> dict[str, str]:
    """Read the strings under a record's fields.

    Args:
        record: a record class.

    Returns:
        Meaning by column; those of inherited fields first. A field without a string is left out.
    """
    inherited = [meanings(base) for base in record.__bases__ if dataclasses.is_dataclass(base)]
    definition = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0]
    assert isinstance(definition, ast.ClassDef)
    found = {name: text for one in inherited for name, text in one.items()}
    for field, text in itertools.pairwise(definition.body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(text.value.value).split()).rstrip(".")
    return found
