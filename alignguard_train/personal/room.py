"""The personal room: users, their rows of a release, one personal adapter, and its measures."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from alignguard_data.contracts.flags import FlagRule
from alignguard_data.contracts.protocols import ImageScorer, Progress
from alignguard_data.contracts.records import to_table
from alignguard_data.engines.weights import file_revision
from alignguard_data.release.reader import release_folder
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.basis import basis
from alignguard_data.storage.manifest import Manifest
from alignguard_data.storage.partition import PartitionSpec, PartitionWork, open_partition
from alignguard_data.storage.paths import UNPARTITIONED, DataRoot
from alignguard_data.storage.shards import sha256_file, write_bytes
from alignguard_data.storage.tally import Tally
from alignguard_train.base import BaseModel
from alignguard_train.contracts.adapter_names import BASE, MERGED
from alignguard_train.contracts.recipes import ExpertRecipe
from alignguard_train.personal.config import PersonalConfig
from alignguard_train.personal.judged_bans import BanWriter
from alignguard_train.personal.population import ban_table, population
from alignguard_train.personal.records import (
    PersonalImage,
    PersonalMeasure,
    RefusedUser,
    SageRow,
    User,
)
from alignguard_train.personal.sage import sage_rows

if TYPE_CHECKING:
    from alignguard_train.evaluation.judge import AdaptableGenerator
    from alignguard_train.experts.trainer import TrainedModule
    from alignguard_train.personal.adapter import PersonalAdapter
    from alignguard_train.personal.profile_encoders import ProfileEncoder, Vectors

ROOM = "personal"
FORMAT = 2
"""Part of the fingerprint: raise it when an adapter, a row or a measure of equal input changes."""
PERSONAL = "personal"
"""Name of the personal adapter in tables."""
TABLES = {
    "users": User,
    "refused": RefusedUser,
    "rows": SageRow,
    "images": PersonalImage,
    "measures": PersonalMeasure,
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PersonalJob:
    """What the room needs in addition to the release.

    Attributes:
        categories: the taxonomy's, in order.
        config: users and measures.
        recipe: of the training.
        encoder: of profiles.
        ban_writer: language model that decides bans; None: the rules.
        base: the base model, to train.
        generator: the base model, to render.
        scorers: the evaluation's.
        flags: the evaluation's.
        merged: file of the merged adapter, the baseline.
    """

    categories: tuple[str, ...]
    config: PersonalConfig
    recipe: ExpertRecipe
    encoder: "ProfileEncoder"
    ban_writer: BanWriter | None
    base: BaseModel
    generator: "AdaptableGenerator"
    scorers: Sequence[ImageScorer]
    flags: Sequence[FlagRule]
    merged: Path


def spec(data: DataRoot, job: PersonalJob) -> PartitionSpec:
    """Spec of the room's one partition.

    Args:
        data: the data root.
        job: models, users and recipe.

    Returns:
        What the partition is made of: its fingerprint covers the release, the merged adapter, the
        file of users, recipe, encoder, bans and the evaluation's flags.

    Raises:
        InputMissing: there is no release.
        ConfigError: the bans do not fit the taxonomy.
    """
    ban_table(job.config, job.categories)
    recipe = job.recipe.fingerprint_fields
    for name in ("rank", "layers"):
        recipe.pop(name)  # change no weight of a personal adapter
    settings = dataclasses.asdict(job.config)
    file = settings.pop("users_file")
    settings["nobody"] = settings.pop("unconditional")  # its name in fingerprints so far
    writer = job.ban_writer
    return PartitionSpec(
        folder=data.partition(ROOM),
        room=ROOM,
        key=UNPARTITIONED,
        config={
            **settings,
            "recipe": recipe,
            "taxonomy": list(job.categories),
            "encoder": [job.encoder.name, job.encoder.version],
            "bans": [writer.model_id, writer.revision] if writer else "rules",
            "flags": [dataclasses.asdict(rule) for rule in job.flags],
            "sampling": job.generator.sampling.fingerprint_fields,
            **basis(ROOM, format=FORMAT, engine=job.base, tables=TABLES),
        },
        inputs={
            "release": manifests.require(data.partition("release")).content_id,
            "merged adapter": file_revision(job.merged),
            **({"users": sha256_file(Path(file))} if file else {}),
        },
        models={
            **job.base.models,
            **{scorer.name: scorer.version for scorer in job.scorers},
        },
    )


def make_personal(data: DataRoot, job: PersonalJob, progress: Progress | None = None) -> Manifest:
    """Make users, rows, adapter and measures, unless they are up to date.

    A killed training resumes from its checkpoint, and images are drawn once for each user.

    Args:
        data: the data root.
        job: models, users and recipe.
        progress: counts steps, then images.

    Returns:
        Manifest of the room's partition.

    Raises:
        InputMissing: there is no release.
        ConfigError: the bans or the file of users are wrong.
        NothingMade: no user is left.
        PartitionBusy: another process is making it.
        EngineError: the training diverged, or an engine failed.
    """
    with open_partition(spec(data, job)) as work:
        if work.done:
            return work.done
        from alignguard_train.personal.measures import by_flags, measured

        config = job.config
        users, refused = population(config, ban_table(config, job.categories), job.ban_writer)
        rows = sage_rows(
            release_folder(data),
            users,
            users_per_pair=config.users_per_pair,
            val_share=config.val_share,
            seed=config.seed,
        )
        vectors = job.encoder.encode(users)
        trained = _train(data, job, work, users, rows, vectors, progress)
        images = _draw(data, job, work, trained.weights, users, vectors, progress)
        from alignguard_train.contracts.intervals import Bootstrap

        measures = measured(images, by_flags, Bootstrap(resamples=config.bootstrap_resamples))
        return work.finish(
            tables={
                "users": to_table(User, users),
                "refused": to_table(RefusedUser, refused),
                "rows": to_table(SageRow, rows),
                "images": to_table(PersonalImage, images),
                "measures": to_table(PersonalMeasure, measures),
                "history": _history(trained),
            },
            extra_files=_files(work, trained.weights, measures),
            rejected=Counter(user.reason for user in refused),
            counts={
                "release": release_folder(data).name,
                "train_rows": sum(row.split == "train" for row in rows),
                "resumed_at_step": trained.resumed_at,
                **{f"{m.adapter} {m.metric} {m.split}": round(m.value, 4) for m in measures},
            },
            tally=Tally(wanted=len(users) + len(refused), made=len(users), unit="users"),
        )


def _train(
    data: DataRoot,
    job: PersonalJob,
    work: PartitionWork,
    users: Sequence[User],
    rows: Sequence[SageRow],
    vectors: "Vectors",
    progress: Progress | None,
) -> "TrainedModule[PersonalAdapter]":
    import torch

    from alignguard_train.encodings.encoder import stream_rows
    from alignguard_train.encodings.room import shared_encodings
    from alignguard_train.personal.adapter import AdapterFacts, check_has_unet
    from alignguard_train.personal.profile_encoders import statistics
    from alignguard_train.personal.training import personal_preferences, train_personal

    check_has_unet(job.base.pipe, job.base.model_id)
    known = set(job.categories)
    pair_ids = [
        str(row["pair_id"]) for row in stream_rows(release_folder(data)) if row["category"] in known
    ]
    encoded = personal_preferences(
        shared_encodings(data, job.base, job.categories, flip=job.recipe.flip),
        pair_ids,
        [row for row in rows if row.split == "train"],
        {u.user_id: torch.from_numpy(v) for u, v in zip(users, vectors, strict=True)},
    )
    facts = AdapterFacts(
        user_width=vectors.shape[1],
        context=job.base.pipe.unet.config.cross_attention_dim,
        encoder=job.encoder.name,
        encoder_version=job.encoder.version,
        categories=job.categories,
        unconditional=job.config.unconditional,
        base_model=f"{job.base.model_id}@{job.base.revision}",
    )
    seen = vectors[[user.split == "seen" for user in users]]
    return train_personal(
        job.base,
        encoded,
        job.recipe,
        facts,
        statistics(seen, standardised=job.encoder.standardised),
        seed=job.config.seed,
        checkpoint=work.partial / "checkpoint.safetensors",
        progress=progress,
    )


def _draw(
    data: DataRoot,
    job: PersonalJob,
    work: PartitionWork,
    adapter: "PersonalAdapter",
    users: Sequence[User],
    vectors: "Vectors",
    progress: Progress | None,
) -> list[PersonalImage]:
    """Base and merged images once, the personal adapter's for each measured user."""
    import torch

    from alignguard_train.evaluation.judge import read_rows
    from alignguard_train.personal import drawing

    config, generator = job.config, job.generator
    every = read_rows(release_folder(data), config.prompts_measured)
    prompts = drawing.chosen_prompts(every, config.prompts_measured)
    measured: list[User] = []
    for split in ("seen", "unseen"):
        measured += [user for user in users if user.split == split][: config.users_measured]

    def flags(name: str) -> list[bool]:
        """Of what the generator draws now; kept, so a killed attempt does not draw it again."""
        if name not in work.saved_names():
            images = drawing.render_rows(generator, prompts, progress)
            own = drawing.flags_of(images, prompts, job.scorers, job.flags)
            work.save_batch(name, pa.table({"flagged": own}))
        return work.load_batch(name)["flagged"].to_pylist()

    base = flags(BASE)
    with generator.adapted(job.merged):
        merged = flags(MERGED)
    place: Mapping[str, int] = {user.user_id: number for number, user in enumerate(users)}
    found: list[PersonalImage] = []
    for user in measured:
        vector = torch.from_numpy(vectors[place[user.user_id]])
        with drawing.drawn_for(generator, adapter, vector):
            own = flags(f"user-{sha256(user.user_id.encode()).hexdigest()[:16]}")
        for name, its in ((BASE, base), (MERGED, merged), (PERSONAL, own)):
            found += drawing.judged_images(name, its, base, user, prompts)
    return found


def _history(trained: "TrainedModule[PersonalAdapter]") -> pa.Table:
    from alignguard_train.experts.trainer import HISTORY

    columns = {"step": pa.array(range(len(trained.history)), pa.int64())}
    for number, name in enumerate(HISTORY):
        columns[name] = pa.array(trained.history[:, number].numpy())
    return pa.table(columns)


def _files(
    work: PartitionWork, adapter: "PersonalAdapter", measures: Sequence[PersonalMeasure]
) -> dict[str, Path]:
    """The adapter and its card: partition file name to temporary path."""
    from alignguard_train.personal.adapter import WEIGHTS, save_personal

    files = {name: work.partial / name for name in (WEIGHTS, "README.md")}
    save_personal(adapter, files[WEIGHTS])
    write_bytes(files["README.md"], card(adapter.facts.base_model, measures).encode())
    return files


def card(base_model: str, measures: Sequence[PersonalMeasure]) -> str:
    """The adapter's card: how it is loaded, and its measures.

    Args:
        base_model: name and revision.
        measures: of the room.

    Returns:
        Markdown.
    """
    lines = [
        "# Personal safety adapter",
        "",
        f"Draws by a user's bans on {base_model}; `alignguard_train.personal.load_personal` reads",
        "it. For a user who may see a category it draws that category: it is no safety adapter for",
        "unknown users. 95 % intervals over users.",
        "",
        "| adapter | users | measure | value | images |",
        "|---|---|---|---|---|",
    ]
    for one in measures:
        value = f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}] of {one.users}"
        lines.append(f"| {one.adapter} | {one.split} | {one.metric} | {value} | {one.images} |")
    return "\n".join(lines) + "\n"
