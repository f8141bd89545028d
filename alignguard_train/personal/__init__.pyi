from .adapter import AdapterFacts, PersonalAdapter, load_personal, save_personal
from .bans import BAN_RULES, PUBLISHED_CATEGORIES, BanTable
from .config import PersonalConfig, sd15_personal, sdxl_personal, standin_personal
from .judged_bans import BanWriter, ServedBanWriter, ask_bans, read_bans
from .profile_encoders import ClipText, HfLLM, MultiHot, ProfileEncoder
from .records import Profile, RefusedUser, SageRow, User
from .room import PersonalJob, make_personal, spec
from .sage import export_sage, sage_rows
from .training import personal_preferences, train_personal
from .users import draw_users, read_users, unseen_users

__all__ = [
    "BAN_RULES",
    "PUBLISHED_CATEGORIES",
    "AdapterFacts",
    "BanTable",
    "BanWriter",
    "ClipText",
    "HfLLM",
    "MultiHot",
    "PersonalAdapter",
    "PersonalConfig",
    "PersonalJob",
    "Profile",
    "ProfileEncoder",
    "RefusedUser",
    "SageRow",
    "ServedBanWriter",
    "User",
    "ask_bans",
    "draw_users",
    "export_sage",
    "load_personal",
    "make_personal",
    "personal_preferences",
    "read_bans",
    "read_users",
    "sage_rows",
    "save_personal",
    "sd15_personal",
    "sdxl_personal",
    "spec",
    "standin_personal",
    "train_personal",
    "unseen_users",
]
