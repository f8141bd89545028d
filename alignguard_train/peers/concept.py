"""What a peer is told to remove, and what every peer offers. Free of torch.

A peer is another published method for the same end: a change of a loaded pipe, given concepts. It
gives back a pipe of the same class that any denoising loop can use; the pipe that it was given
stays as it was, and shares its weights with the new one wherever they are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from alignguard_data.engines.diffusion.conditions import Pipe

Texts = Literal["name", "examples"]
"""What stands for a concept: its name in a template, or the prompts in which it occurs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """A concept by its name, as a taxonomy spells it.

    ``examples`` are prompt pairs in which it occurs, (unsafe, safe), from the release that the
    adapter was trained on too.
    """

    category: str
    name: str
    examples: tuple[tuple[str, str], ...] = ()


class Peer(Protocol):
    """One method with its parameters; equal ones change a pipe in the same way."""

    def apply(self, pipe: "Pipe", concepts: Sequence[Concept]) -> "Pipe":
        """A pipe that keeps ``concepts`` out of its images.

        Raises:
            EngineError: the method cannot work with this pipe.
        """
        ...


def filled(template: str, concepts: Sequence[Concept]) -> list[str]:
    """One text a concept: ``template`` with its name in the place of ``{}``."""
    return [template.format(concept.name) for concept in concepts]


def examples_of(concepts: Sequence[Concept]) -> list[tuple[Concept, str, str]]:
    """Every concept's examples: the concept, its unsafe prompt and the safe twin.

    Raises:
        ValueError: no concept has any.
    """
    found = [(c, unsafe, safe) for c in concepts for unsafe, safe in c.examples]
    if not found:
        raise ValueError("texts is examples, but the concepts have none")
    return found


def of_categories(concepts: Sequence[Concept]) -> dict[str, list[Concept]]:
    """Concepts by category, in the order in which they were given."""
    found: dict[str, list[Concept]] = {}
    for concept in concepts:
        found.setdefault(concept.category, []).append(concept)
    return found


def check(concepts: Sequence[Concept], template: str) -> None:
    """Refuse what no method can work with.

    Raises:
        ValueError: there is no concept, or the template has no place for one.
    """
    if not concepts:
        raise ValueError("a peer needs at least one concept")
    if template.count("{}") != 1:
        raise ValueError(f"template must hold one {{}} for the concept's name, got {template!r}")
