"""The pairs of a release per user, flipped where the user may see the category; and their export.

A pair teaches a user's ban by preferring the safe image, and a user's permission by preferring the
unsafe one. The caption is the unsafe prompt in both cases (Sage, arXiv 2508.01151).
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alignguard_data.contracts.errors import ConfigError, IntegrityError, NothingMade
from alignguard_data.storage.parquet_files import dataset
from alignguard_data.storage.places import Place, list_folder
from alignguard_train.personal.records import SageRow, SageSplit, User, UserSplit
from alignguard_train.personal.users import PUBLISHED

_COLUMNS = ["pair_id", "concept", "category", "caption", "sha256_0", "sha256_1"]
_SPLITS: dict[SageSplit, tuple[str, UserSplit]] = {
    "train": ("train", "seen"),
    "val": ("train", "seen"),
    "test_seen": ("test", "seen"),
    "test_unseen": ("test", "unseen"),
}
"""Split to the release's split and the users."""
METADATA = "metadata.jsonl"


def sage_rows(
    release: Place, users: Sequence[User], *, users_per_pair: int, val_share: float, seed: int
) -> list[SageRow]:
    """Every pair of the release for some users, in release order.

    Which users a pair is for depends on its id and the seed only.

    Args:
        release: folder of the release.
        users: seen and unseen ones.
        users_per_pair: users for which each pair is a row.
        val_share: share of the train pairs kept out of training, for validation.
        seed: of the choice of users.

    Returns:
        Rows of all splits; train pairs for seen users, test pairs for both.

    Raises:
        IntegrityError: the release has no train split, or lacks a column.
        NothingMade: no row, or no row of a train pair.
    """
    rows = [
        row
        for split, (source, of_users) in _SPLITS.items()
        for row in _split_rows(
            split,
            _pairs(release, source),
            [user for user in users if user.split == of_users],
            users_per_pair,
            val_share,
            seed,
        )
    ]
    if not any(row.split == "train" for row in rows):
        counted = sum(user.split == "seen" for user in users)
        raise NothingMade([f"personal: no train pair for {counted} seen users"])
    return rows


def _split_rows(
    split: SageSplit,
    pairs: Sequence[Mapping[str, Any]],
    users: Sequence[User],
    users_per_pair: int,
    val_share: float,
    seed: int,
) -> Iterator[SageRow]:
    for pair in pairs:
        generator = np.random.default_rng(_number(f"pair {seed} {pair['pair_id']}"))
        held_back = generator.random() < val_share
        if split in ("train", "val") and held_back != (split == "val"):
            continue
        for place in generator.permutation(len(users))[:users_per_pair]:
            yield _row(split, pair, users[place])


def _row(split: SageSplit, pair: Mapping[str, Any], user: User) -> SageRow:
    category = str(pair["category"])
    if category not in {*user.banned, *user.allowed}:
        known = ", ".join([*user.banned, *user.allowed])
        fault = f"category: user {user.user_id} knows only {known} (got {category!r})"
        raise ConfigError(f"pair {pair['pair_id']} of the release", [fault])
    banned = category in user.banned
    safe, unsafe = str(pair["sha256_0"]), str(pair["sha256_1"])
    return SageRow(
        split=split,
        pair_id=str(pair["pair_id"]),
        user_id=user.user_id,
        concept=str(pair["concept"]),
        category=category,
        banned=banned,
        caption=str(pair["caption"]),
        chosen=safe if banned else unsafe,
        rejected=unsafe if banned else safe,
    )


def _pairs(release: Place, split: str) -> list[dict[str, Any]]:
    shards = list_folder(release / "data", f"{split}-*.parquet")
    if not shards and split == "train":
        raise IntegrityError(f"{release / 'data'} has no train-*.parquet")
    found: list[dict[str, Any]] = []
    for shard in shards:
        source = dataset([shard])
        if lacking := sorted(set(_COLUMNS) - set(source.schema.names)):
            raise IntegrityError(f"{shard} lacks column(s) {', '.join(lacking)}")
        found += source.to_table(columns=_COLUMNS).to_pylist()
    return found


def export_sage(
    release: Place, rows: Sequence[SageRow], users: Mapping[str, User], out: Path
) -> dict[str, int]:
    """Write rows in Sage's published schema: a folder per split with images and `metadata.jsonl`.

    ``file_name`` is the chosen image's, so `datasets`' image folders load it. The images are those
    of the release, unblurred. ``Cluster_ID`` is the index of the user's set of bans among all.

    Args:
        release: folder of the release.
        rows: of :func:`sage_rows`.
        users: by id.
        out: the folder to make.

    Returns:
        Rows by split.

    Raises:
        ConfigError: ``out`` exists.
        IntegrityError: an image of a row is not in the release.
    """
    if out.exists():
        raise ConfigError(str(out), ["exists already: name a new folder"])
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    lines: dict[str, list[str]] = {split: [] for split in _SPLITS}
    bans = sorted({user.banned for user in users.values()})
    for split, (source, _) in _SPLITS.items():
        own = [row for row in rows if row.split == split]
        names = _write_images(release, source, own, partial / split)
        for row in own:
            user = users[row.user_id]
            lines[split].append(json.dumps(_published(row, user, names, bans.index(user.banned))))
    for split, texts in lines.items():
        (partial / split).mkdir(exist_ok=True)
        (partial / split / METADATA).write_text("".join(f"{text}\n" for text in texts))
    partial.replace(out)
    return {split: len(texts) for split, texts in lines.items()}


def _published(
    row: SageRow, user: User, names: Mapping[str, str], cluster: int
) -> dict[str, object]:
    about = {name: getattr(user, field) for field, name in PUBLISHED.items()}
    return {
        "file_name": names[row.chosen],
        "chosen": names[row.chosen],
        "rejected": names[row.rejected],
        "caption": row.caption,
        "user_data": {**about, "Cluster_ID": cluster},
    }


def _write_images(
    release: Place, split: str, rows: Sequence[SageRow], folder: Path
) -> dict[str, str]:
    """Write each image of the rows once; returns file names by the image's hash."""
    folder.mkdir(mode=0o700)
    wanted = {row.pair_id for row in rows}
    names: dict[str, str] = {}
    columns = ["pair_id", "sha256_0", "sha256_1", "jpg_0", "jpg_1"]
    for shard in list_folder(release / "data", f"{split}-*.parquet"):
        for batch in dataset([shard]).to_batches(columns=columns):
            for pair in batch.to_pylist():
                if pair["pair_id"] not in wanted:
                    continue
                for side, end in ((0, "s"), (1, "u")):
                    content = pair[f"jpg_{side}"]
                    name = f"{pair['pair_id']}_{end}{_suffix(content)}"
                    (folder / name).write_bytes(content)
                    names[pair[f"sha256_{side}"]] = name
    hashes = {one for row in rows for one in (row.chosen, row.rejected)}
    if lost := sorted(hashes - set(names)):
        raise IntegrityError(f"{release} has no image {lost[0]} ({len(lost)} in all)")
    return names


def _suffix(content: bytes) -> str:
    with Image.open(BytesIO(content)) as image:
        return ".png" if image.format == "PNG" else ".jpg"


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
