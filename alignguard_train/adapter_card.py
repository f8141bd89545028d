"""What an adapter says about itself: metadata in its file's header, and a model card."""

import json
from collections.abc import Mapping
from importlib import resources

import jinja2

from alignguard_data.manifest import Manifest, library_versions
from alignguard_train.adapter import KOHYA_WEIGHTS, WEIGHTS


def adapter_metadata(
    *,
    release: Manifest,
    base_model: str,
    base_revision: str,
    merge: str,
    rank: int,
    experts: Mapping[str, str],
) -> dict[str, str]:
    """Header of a merged adapter: nothing but content decides it, so equal merges stay equal.

    ``experts`` maps a category to the sha256 of its expert's file. The ``ss_`` names are those
    that kohya-ss and the tools after it read.
    """
    return {
        "alignguard.release": str(release.counts["path"]),
        "alignguard.release_content_id": str(release.counts["release_content_id"]),
        "alignguard.base_model": base_model,
        "alignguard.base_revision": base_revision,
        "alignguard.merge": merge,
        "alignguard.experts": json.dumps(dict(sorted(experts.items()))),
        "alignguard.versions": ", ".join(f"{k} {v}" for k, v in library_versions().items()),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
        "ss_output_name": f"alignguard-{merge}",
    }


def render_adapter_card(
    metadata: Mapping[str, str], *, strategy: str, error: float | None = None
) -> str:
    """README.md beside an adapter; ``error`` is that of a merge cut to a lower rank."""
    source = resources.files("alignguard_train").joinpath("templates", "adapter_card.md.j2")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        meta=metadata,
        title=f"AlignGuard safety adapter ({strategy})",
        how=f"merged by {strategy}",
        weights=WEIGHTS,
        kohya=KOHYA_WEIGHTS,
        experts=json.loads(metadata["alignguard.experts"]),
        error=error,
    )
