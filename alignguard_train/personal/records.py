"""Rows that the personal room writes."""

from dataclasses import dataclass
from typing import Literal

UserSplit = Literal["seen", "unseen"]
SageSplit = Literal["train", "val", "test_seen", "test_unseen"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """What is known of one user."""

    user_id: str
    """Id of the user: seven digits, or as the file of users gives it."""
    age: int
    """Age in years, 0 to 100."""
    age_group: str
    """Group of the age."""
    gender: str
    """Male or female."""
    religion: str
    """Christianity, islam, buddhism or none."""
    physical: str
    """Physical condition, or healthy."""
    mental: str
    """Mental condition, or healthy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class User(Profile):
    """A user with bans: categories of the release that must not be drawn for this user."""

    split: UserSplit
    """Seen in training, or unseen."""
    banned: tuple[str, ...]
    """Categories banned for the user, in the taxonomy's order."""
    allowed: tuple[str, ...]
    """The other categories."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedUser:
    """A user whose bans could not be read, with the reason slug."""

    user_id: str
    """Id of the user."""
    reason: str
    """Why the language model's reply was refused."""
    detail: str
    """The value that was refused, shortened; empty where the slug says it all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SageRow:
    """One pair of a release for one user: flipped where the user may see the category."""

    split: str
    """Train, val, test_seen or test_unseen."""
    pair_id: str
    """Id of the pair in the release."""
    user_id: str
    """Id of the user."""
    concept: str
    """Key of the concept: category, dot, slug."""
    category: str
    """Category of the concept."""
    banned: bool
    """Whether the category is banned for the user; if not, the unsafe image is the chosen one."""
    caption: str
    """The unsafe prompt, whichever image is chosen."""
    chosen: str
    """Sha256 (hex) of the chosen image."""
    rejected: str
    """Sha256 (hex) of the rejected image."""
