from .changes import ChangedPair, diff
from .checks import audit_release, read_manifest, rows_of, verify_release
from .config import ReleaseConfig
from .export import export_release
from .folders import latest_release, list_releases
from .freshness import Freshness, release_freshness
from .push import Push, Pushed, push_release
from .reader import release_folder, train_rows
from .room import build_release, show_release, spec
from .withdrawals import Withdrawal, read_withdrawals, withdraw

__all__ = [
    "ChangedPair",
    "Freshness",
    "Push",
    "Pushed",
    "ReleaseConfig",
    "Withdrawal",
    "audit_release",
    "build_release",
    "diff",
    "export_release",
    "latest_release",
    "list_releases",
    "push_release",
    "read_manifest",
    "read_withdrawals",
    "release_folder",
    "release_freshness",
    "rows_of",
    "show_release",
    "spec",
    "train_rows",
    "verify_release",
    "withdraw",
]
