"""Asset checks over `alignguard_data.audit`; faults that would propagate block."""

import time
from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from alignguard_data.audit.rooms import audit_rooms
from alignguard_data.contracts.findings import Finding
from alignguard_data.release.checks import audit_release
from alignguard_data.release.freshness import release_freshness
from alignguard_data.release.room import latest_release
from pipelines.resources import Engines

ROOM_CHECKS = ("schema", "hashes", "ids", "funnel_sums", "flag_rates", "prompts", "minors")
RELEASE_CHECKS = ("schema", "hashes", "split_leaks", "duplicates", "minors")

FRESHNESS_LOOKED_AT = "0 6 * * *"
"""Cron line of the freshness check, run by the automation sensor."""


def asset_checks(engines: Engines) -> list[dg.AssetChecksDefinition]:
    """Checks on the index (all rooms before the release) and on the release."""
    return [
        _checks(engines, "index", ROOM_CHECKS, _room_findings),
        _checks(engines, "release", RELEASE_CHECKS, _release_findings),
        _freshness(engines),
    ]


def _room_findings(engines: Engines) -> list[Finding]:
    return audit_rooms(engines.data, engines.taxonomy, engines.profile.audit)


def _release_findings(engines: Engines) -> list[Finding]:
    folder = latest_release(engines.data)
    return [] if folder is None else audit_release(folder, engines.embedder)


def _freshness(engines: Engines) -> dg.AssetChecksDefinition:
    """Warns only.

    Dagster's own freshness looks at when the asset last ran; a run that finds nothing new cuts no
    release, and pairs may change without a run of it.
    """

    @dg.asset_check(
        asset=dg.AssetKey([engines.profile.name, "release"]),
        name="freshness",
        blocking=False,
        description="The newest release is recent enough and holds the current pairs.",
        automation_condition=dg.AutomationCondition.cron_tick_passed(FRESHNESS_LOOKED_AT),
    )
    def freshness(engines: dg.ResourceParam[Engines]) -> dg.AssetCheckResult:
        found = release_freshness(
            engines.data, engines.taxonomy, engines.profile.release_max_age_days, time.time()
        )
        return dg.AssetCheckResult(
            passed=found.finding.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=found.finding.message,
            metadata={
                **found.finding.numbers,
                "version": found.version,
                "folder": dg.MetadataValue.path(str(found.folder)),
            },
        )

    return freshness


def _checks(
    engines: Engines, asset: str, names: Sequence[str], find: Callable[[Engines], list[Finding]]
) -> dg.AssetChecksDefinition:
    """All checks of one asset in one step, so its files are read once."""
    key = dg.AssetKey([engines.profile.name, asset])

    @dg.multi_asset_check(
        name=f"{engines.profile.name}_{asset}_checks",
        specs=[dg.AssetCheckSpec(name=name, asset=key, blocking=True) for name in names],
    )
    def checks(engines: dg.ResourceParam[Engines]) -> Iterator[dg.AssetCheckResult]:
        found = {finding.name: finding for finding in find(engines)}
        for name in names:
            finding = found.get(name) or Finding(
                name=name, passed=False, numbers={}, message=f"{asset} was not examined"
            )
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=name,
                passed=finding.passed,
                description=finding.message,
                metadata=dict(finding.numbers),
            )

    return checks
