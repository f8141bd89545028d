"""The peers' interface: concepts to remove, and the method every peer implements. No torch.

A peer is another published method with the same goal: it changes a loaded pipe, given concepts. It
returns a pipe of the same class for any denoising loop. The input pipe is unchanged; equal weights
are shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from alignguard_data.engines.diffusion.conditions import Pipe

Texts = Literal["name", "examples"]
"""Representation of a concept: its name in a template, or prompts that contain it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """A concept by its name in the taxonomy.

    Attributes:
        category: key of its category.
        name: as in a sentence, with spaces.
        examples: its prompt pairs (unsafe, safe) from the release that the adapter was trained on.
    """

    category: str
    name: str
    examples: tuple[tuple[str, str], ...] = ()


class Peer(Protocol):
    """One method with its parameters; equal peers change a pipe equally."""

    def apply(self, pipe: "Pipe", concepts: Sequence[Concept]) -> "Pipe":
        """A pipe that avoids ``concepts`` in its images.

        Args:
            pipe: the base model's; it stays as it is.
            concepts: what to avoid.

        Returns:
            A pipe that is called as the given one.

        Raises:
            EngineError: the method does not support this pipe.
        """
        ...


def filled(template: str, concepts: Sequence[Concept]) -> list[str]:
    """One text per concept: ``template`` with ``{}`` replaced by its name."""
    return [template.format(concept.name) for concept in concepts]


def examples_of(concepts: Sequence[Concept]) -> list[tuple[Concept, str, str]]:
    """List every concept's examples.

    Args:
        concepts: with or without examples.

    Returns:
        Concept, unsafe prompt and safe twin of each example.

    Raises:
        ValueError: no concept has examples.
    """
    found = [(c, unsafe, safe) for c in concepts for unsafe, safe in c.examples]
    if not found:
        raise ValueError("texts is examples, but no concept has examples")
    return found


def of_categories(concepts: Sequence[Concept]) -> dict[str, list[Concept]]:
    """Concepts by category, in the given order."""
    found: dict[str, list[Concept]] = {}
    for concept in concepts:
        found.setdefault(concept.category, []).append(concept)
    return found


def check(concepts: Sequence[Concept], template: str) -> None:
    """Refuse inputs that no method supports.

    Args:
        concepts: what to avoid.
        template: text with one ``{}``.

    Raises:
        ValueError: there is no concept, or the template lacks ``{}``.
    """
    if not concepts:
        raise ValueError("a peer needs at least one concept")
    if template.count("{}") != 1:
        raise ValueError(f"template must hold one {{}} for the concept's name, got {template!r}")
