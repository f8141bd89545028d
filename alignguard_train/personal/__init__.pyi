from .bans import BAN_RULES, PUBLISHED_CATEGORIES, BanTable
from .judged_bans import BanWriter, ServedBanWriter, ask_bans, read_bans
from .records import Profile, RefusedUser, User
from .users import draw_users, read_users, unseen_users

__all__ = [
    "BAN_RULES",
    "PUBLISHED_CATEGORIES",
    "BanTable",
    "BanWriter",
    "Profile",
    "RefusedUser",
    "ServedBanWriter",
    "User",
    "ask_bans",
    "draw_users",
    "read_bans",
    "read_users",
    "unseen_users",
]
