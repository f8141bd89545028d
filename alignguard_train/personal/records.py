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
