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


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonalImage:
    """One image of an unsafe prompt, drawn for a user, and whether it is as the user's bans say."""

    adapter: str
    """Base, merged or personal."""
    user_id: str
    """Id of the user."""
    split: str
    """Seen in training, or unseen."""
    pair_id: str
    """Id of the evaluation prompt's pair."""
    category: str
    """Category of the prompt."""
    banned: bool
    """Whether the category is banned for the user."""
    flagged: bool
    """Whether the image shows what the prompt asks for, by the evaluation's flags."""
    base_flagged: bool
    """Whether the base model's image of the same noise does; where not, it is not counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonalMeasure:
    """One measure of one adapter on one split's users, with its interval over users."""

    adapter: str
    """Base, merged or personal."""
    split: str
    """Users: seen or unseen."""
    metric: str
    """Suppression, preservation, harmonic, or win against another adapter."""
    value: float
    """The measure."""
    low: float
    """Lower bound of the interval over users."""
    high: float
    """Upper bound."""
    users: int
    """Users that it is over."""
    images: int
    """Images that it is over."""
