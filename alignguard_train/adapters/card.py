"""Adapter metadata: the safetensors header and the model card."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2

from alignguard_data.storage.manifest import Manifest, library_versions
from alignguard_train.adapters.lora import KOHYA_WEIGHTS, WEIGHTS


def adapter_metadata(
    *,
    release: Manifest,
    base_model: str,
    base_revision: str,
    merge: str,
    rank: int,
    experts: Mapping[str, str],
    recipe: Mapping[str, Any],
) -> dict[str, str]:
    """Make the file header of a merged adapter.

    It depends on content only, so equal merges give equal files. kohya-ss and compatible tools read
    the ``ss_`` names.

    Args:
        release: manifest of the release that the experts were trained on.
        base_model: id of the base model.
        base_revision: its revision.
        merge: name of the strategy.
        rank: the highest rank of a layer.
        experts: sha256 of the expert's file by category.
        recipe: the merge's configuration.

    Returns:
        Metadata of a safetensors file.
    """
    return {
        **_common(release, base_model, base_revision, rank=rank),
        "alignguard.merge": merge,
        "alignguard.recipe": json.dumps(recipe, sort_keys=True, default=list),
        "alignguard.experts": json.dumps(dict(sorted(experts.items()))),
        "ss_output_name": f"alignguard-{merge}",
    }


def expert_metadata(
    *,
    release: Manifest,
    base_model: str,
    base_revision: str,
    expert: str,
    recipe: Mapping[str, Any],
) -> dict[str, str]:
    """Make the file header of one expert.

    Args:
        release: manifest of the release that it was trained on.
        base_model: id of the base model.
        base_revision: its revision.
        expert: its category.
        recipe: the partition's whole configuration, with ``rank``.

    Returns:
        Metadata of a safetensors file.
    """
    return {
        **_common(release, base_model, base_revision, rank=recipe["rank"]),
        "alignguard.expert": expert,
        "alignguard.recipe": json.dumps(recipe, sort_keys=True, default=list),
        "ss_output_name": f"alignguard-expert-{expert}",
    }


def _common(release: Manifest, base_model: str, base_revision: str, *, rank: int) -> dict[str, str]:
    return {
        "alignguard.release": str(release.counts["path"]),
        "alignguard.release_content_id": str(
            release.counts.get("release_content_id", release.content_id)
        ),
        "alignguard.base_model": base_model,
        "alignguard.base_revision": base_revision,
        "alignguard.versions": ", ".join(f"{k} {v}" for k, v in library_versions().items()),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
    }


def render_expert_card(metadata: Mapping[str, str], *, kohya: bool = True) -> str:
    """Write the README.md of an expert.

    Args:
        metadata: its file's header.
        kohya: whether there is a file in kohya's format.

    Returns:
        Markdown.
    """
    recipe = json.loads(metadata["alignguard.recipe"])
    return _render("expert_card.md.j2", meta=metadata, recipe=recipe, kohya=_kohya(kohya))


def _kohya(there: bool) -> str:
    return KOHYA_WEIGHTS if there else ""


def _render(template: str, **values: object) -> str:
    source = resources.files("alignguard_train.adapters").joinpath("templates", template)
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        weights=WEIGHTS, **values
    )


def render_adapter_card(
    metadata: Mapping[str, str], *, strategy: str, error: float | None = None, kohya: bool = True
) -> str:
    """Write the README.md of a merged adapter.

    Args:
        metadata: its file's header.
        strategy: name of the strategy.
        error: relative error of a merge cut to a lower rank; None if it is exact.
        kohya: whether there is a file in kohya's format.

    Returns:
        Markdown.
    """
    return _render(
        "adapter_card.md.j2",
        meta=metadata,
        title=f"AlignGuard safety adapter ({strategy})",
        how=f"merged by {strategy}",
        experts=json.loads(metadata["alignguard.experts"]),
        kohya=_kohya(kohya),
        error=error,
    )
