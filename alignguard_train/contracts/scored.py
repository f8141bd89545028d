"""Scores of images by several scorers, as flag rules read them."""

from collections.abc import Sequence

from alignguard_data.contracts.protocols import ImageScorer, Pixels


def scores_of(
    scorers: Sequence[ImageScorer], images: Pixels, prompts: Sequence[str]
) -> list[dict[tuple[str, str], float]]:
    """Every scorer's numbers of each image.

    Args:
        scorers: asked in turn.
        images: (images, height, width, 3), uint8.
        prompts: of the images.

    Returns:
        By scorer and key, of each image.
    """
    scores: list[dict[tuple[str, str], float]] = [{} for _ in prompts]
    for scorer in scorers:
        for known, found in zip(scores, scorer.score(images, prompts), strict=True):
            known.update({(scorer.name, key): value for key, value in found.items()})
    return scores
