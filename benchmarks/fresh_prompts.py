"""New prompts by a profile's writer, as evaluation rows."""

import json
from collections.abc import Iterable

from alignguard_data.contracts.protocols import TextGenerator, WritingRequest
from alignguard_data.contracts.records import SIDES, Concept
from alignguard_train.evaluation.judge import evaluation_seed
from alignguard_train.evaluation.records import EvaluationRow


def fresh_rows(
    writer: TextGenerator, concepts: Iterable[Concept], requests: range, *, prefix: str = ""
) -> list[EvaluationRow]:
    """Both sides of the replies to ``requests`` about every concept.

    A pair's name, and so its seed, is ``<prefix><concept>-<request>``; the writer's replies must
    hold both prompts.
    """
    rows = []
    for concept in concepts:
        asked = [WritingRequest(concept=concept, index=index) for index in requests]
        for request, reply in zip(asked, writer.generate(asked), strict=True):
            pair_id, prompts = f"{prefix}{concept.key}-{request.index}", json.loads(reply.text)
            rows += [
                EvaluationRow(
                    pair_id=pair_id,
                    side=side,
                    prompt=prompts[f"{side}_prompt"],
                    concept=concept.key,
                    category=concept.category,
                    seen=concept.split == "train",
                    seed=evaluation_seed(pair_id),
                )
                for side in SIDES
            ]
    return rows
