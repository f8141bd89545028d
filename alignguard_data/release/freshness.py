"""Whether the newest release is recent and matches the rooms."""

import dataclasses

from alignguard_data.contracts.findings import Finding, finding
from alignguard_data.release.folders import latest_release
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.manifest import MANIFEST
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.places import Place
from alignguard_data.taxonomy.parse import Taxonomy

_DAY_SECONDS = 86_400


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Freshness:
    """A finding on a release's age.

    Attributes:
        finding: the finding.
        version: version of the release.
        folder: folder of the release.
    """

    finding: Finding
    version: str
    folder: Place


def release_freshness(
    data: DataRoot, taxonomy: Taxonomy, max_age_days: float | None, now: float
) -> Freshness:
    """Check the age of the newest release, and which concepts have changed since.

    The age is from the manifest file's time; a clock set back gives age 0.

    Args:
        data: the data folder.
        taxonomy: its concepts.
        max_age_days: oldest age that passes; None for any.
        now: seconds since 1970.

    Returns:
        The finding, with the release.
    """
    folder = latest_release(data)
    if folder is None:
        missing = finding("freshness", [f"there is no release in {data.releases}"], {})
        return Freshness(finding=missing, version="", folder=data.releases)
    age = max(0.0, now - (folder / MANIFEST).stat().st_mtime) / _DAY_SECONDS
    faults = []
    if max_age_days is not None and age > max_age_days:
        faults.append(f"{folder.name} is {age:.1f} days old, more than {max_age_days:g}")
    changed = _changed(data, taxonomy)
    faults += [f"the kept pairs of {key} changed since {folder.name}" for key in changed]
    numbers = {"age_days": round(age, 2), "changed_concepts": len(changed)}
    return Freshness(
        finding=finding("freshness", faults, numbers),
        version=folder.name.rsplit("-", 1)[-1],
        folder=folder,
    )


def _changed(data: DataRoot, taxonomy: Taxonomy) -> list[str]:
    """Concepts whose kept pairs were added, changed or removed; unfinished ones are ignored."""
    pointed = manifests.load(data.partition("release"))
    made_from = pointed.inputs if pointed else {}
    was = {
        name.removeprefix("pairs/"): content
        for name, content in made_from.items()
        if name.startswith("pairs/")
    }
    now = {}
    for concept in taxonomy.concepts:
        if done := manifests.load(data.partition("pairs", concept.key)):
            now[concept.key] = done.content_id
    return sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
