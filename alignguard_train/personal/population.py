"""The users of a profile: drawn or read, banned by rules, by a model or by their file."""

from collections.abc import Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

from alignguard_data.contracts.errors import NothingMade
from alignguard_train.personal.bans import PUBLISHED_CATEGORIES, BanTable
from alignguard_train.personal.config import PersonalConfig
from alignguard_train.personal.judged_bans import BanWriter, ask_bans
from alignguard_train.personal.records import RefusedUser, User
from alignguard_train.personal.users import draw_users, read_users, unseen_users


def ban_table(config: PersonalConfig, categories: Sequence[str]) -> BanTable:
    """The rules' categories in terms of the taxonomy's.

    Args:
        config: names them.
        categories: the taxonomy's.

    Returns:
        The table.

    Raises:
        ConfigError: a category is unknown or in no category of the rules; every fault.
    """
    return BanTable(
        release=tuple(categories), mapping=config.categories, always=config.always_banned
    )


def _place(user_id: str) -> bytes:
    return blake2b(f"order {user_id}".encode(), digest_size=8).digest()


def population(
    config: PersonalConfig, table: BanTable, writer: BanWriter | None = None
) -> tuple[list[User], list[RefusedUser]]:
    """Users with their bans and split.

    Args:
        config: how many, or from which file.
        table: the bans' rules.
        writer: the language model that decides bans; None: the rules. Bans that a file states hold.

    Returns:
        The users, and those whose reply was refused.

    Raises:
        ConfigError: the file of users is wrong; every fault.
        NothingMade: no user is left, or none that is seen.
    """
    stated: dict[str, list[str]] = {}
    if config.users_file:
        known = [*PUBLISHED_CATEGORIES, *table.release]
        read, stated = read_users(Path(config.users_file), known)
        # A file may be sorted, and of each split the first users are measured.
        profiles = sorted(read, key=lambda one: _place(one.user_id))
    else:
        profiles = draw_users(config.users, seed=config.seed)
    unseen = unseen_users(profiles, config.unseen_share)
    banned = {
        p.user_id: table.by_names(p, stated[p.user_id]) for p in profiles if p.user_id in stated
    }
    open_ones = [profile for profile in profiles if profile.user_id not in stated]
    refused: list[RefusedUser] = []
    if writer is None:
        banned |= {profile.user_id: table.by_rules(profile) for profile in open_ones}
    else:
        asked, refused = ask_bans(open_ones, writer, table)
        banned |= asked
    users = [
        User(
            **asdict(profile),
            split="unseen" if profile.user_id in unseen else "seen",
            banned=banned[profile.user_id],
            allowed=tuple(one for one in table.release if one not in banned[profile.user_id]),
        )
        for profile in profiles
        if profile.user_id in banned
    ]
    if not any(user.split == "seen" for user in users):
        raise NothingMade([f"personal: no seen user of {len(profiles)}; {len(refused)} refused"])
    return users, refused
