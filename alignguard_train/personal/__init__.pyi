from .bans import BAN_RULES, PUBLISHED_CATEGORIES, BanTable
from .judged_bans import BanWriter, ServedBanWriter, ask_bans, read_bans
from .profile_encoders import ClipText, HfLLM, MultiHot, ProfileEncoder
from .records import Profile, RefusedUser, SageRow, User
from .sage import export_sage, sage_rows
from .users import draw_users, read_users, unseen_users

__all__ = [
    "BAN_RULES",
    "PUBLISHED_CATEGORIES",
    "BanTable",
    "BanWriter",
    "ClipText",
    "HfLLM",
    "MultiHot",
    "Profile",
    "ProfileEncoder",
    "RefusedUser",
    "SageRow",
    "ServedBanWriter",
    "User",
    "ask_bans",
    "draw_users",
    "export_sage",
    "read_bans",
    "read_users",
    "sage_rows",
    "unseen_users",
]
