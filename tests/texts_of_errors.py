"""Finds decisions that are taken by what an error's text says: they break when the text changes."""

import ast

_TEXTS = {"args", "message", "msg", "strerror", "stderr", "stdout"}
_ASKING = {"startswith", "endswith", "find", "rfind", "index", "rindex", "count"}
_SEARCHING = {"match", "search", "fullmatch", "findall", "finditer"}
_ASKS = (ast.In, ast.NotIn, ast.Eq, ast.NotEq)


def decisions(tree: ast.AST) -> list[int]:
    """Lines on which a condition looks into the text of an exception."""
    return sorted({line for scope in ast.walk(tree) if _is_scope(scope) for line in _within(scope)})


def _is_scope(node: ast.AST) -> bool:
    return isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef)


def _within(scope: ast.AST) -> list[int]:
    errors = {
        node.name for node in ast.walk(scope) if isinstance(node, ast.ExceptHandler) and node.name
    } | {
        node.arg
        for node in ast.walk(scope)
        if isinstance(node, ast.arg) and node.annotation and _names_error(node.annotation)
    }
    texts: set[str] = set()
    known = -1
    while known < len(texts):  # until no text leads to another
        known = len(texts)
        for node in ast.walk(scope):
            if (
                isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)
                and node.value
                and _holds_text(node.value, errors, texts)
            ):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                texts |= {target.id for target in targets if isinstance(target, ast.Name)}
    return [
        node.lineno
        for node in ast.walk(scope)
        if isinstance(node, ast.Compare | ast.Call | ast.Match) and _asks(node, errors, texts)
    ]


def _names_error(annotation: ast.expr) -> bool:
    said = ast.unparse(annotation)
    return "Error" in said or "Exception" in said


def _holds_text(node: ast.AST, errors: set[str], texts: set[str]) -> bool:
    """Whether an expression contains what an error says: ``str(error)``, ``error.args``, ..."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in texts:
            return True
        if isinstance(part, ast.Attribute) and part.attr in _TEXTS and _is_error(part, errors):
            return True
        if isinstance(part, ast.FormattedValue) and _is_error(part.value, errors):
            return True
        if (
            isinstance(part, ast.Call)
            and isinstance(part.func, ast.Name)
            and part.func.id in ("str", "repr", "first_line", "reason")
            and any(_is_error(argument, errors) for argument in part.args)
        ):
            return True
    return False


def _is_error(node: ast.expr, errors: set[str]) -> bool:
    """``error``, ``error.args``, ``error.__cause__``: an error, or what hangs on it."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in errors


def _asks(node: ast.Compare | ast.Call | ast.Match, errors: set[str], texts: set[str]) -> bool:
    if isinstance(node, ast.Match):
        return _holds_text(node.subject, errors, texts)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return any(isinstance(op, _ASKS) for op in node.ops) and any(
            _holds_text(side, errors, texts) for side in sides
        )
    if not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr in _ASKING:
        return _holds_text(node.func.value, errors, texts)
    searched = [*node.args, *(keyword.value for keyword in node.keywords)]
    return node.func.attr in _SEARCHING and any(_holds_text(a, errors, texts) for a in searched)
