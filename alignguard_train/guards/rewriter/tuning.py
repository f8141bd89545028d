"""Trains a rewriter on pairs of a prompt and its reply."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_train.guards.config import RewriterSettings
from alignguard_train.guards.rewriter.losses import IGNORED, reply_loss
from alignguard_train.guards.rewriter.model import Start, Writer
from alignguard_train.guards.rewriter.star import SAFE, PrefixScorer, token_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """A prompt and the reply to learn."""

    prompt: str
    reply: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Padded ids (rows, length), their mask, labels for each place, and weights."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    safe: Tensor | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    prompt: list[int]
    reply: list[int]
    safe: list[float] | None


def tune(
    writer: Writer,
    lessons: Sequence[Lesson],
    settings: RewriterSettings,
    *,
    steps: int,
    scorer: PrefixScorer | None = None,
    loss: str = "plain",
    seed: int,
    progress: Progress | None = None,
) -> int:
    """Train a writer in place.

    Args:
        writer: the model to train, and the start that ``star_dss`` stays with.
        lessons: prompts and replies.
        settings: batches, rates and chunks.
        steps: of AdamW, with a warm-up over the first tenth and a linear fall to zero.
        scorer: of beginnings, for ``rejection`` and ``star_dss``.
        loss: plain, rejection or star_dss.
        seed: of the batches.
        progress: called with 1 after each step.

    Returns:
        How many lessons were rejected.

    Raises:
        EngineError: no lesson is left, a reply is empty, or a loss is not finite.
    """
    kept = accepted(lessons, scorer) if loss == "rejection" else list(lessons)
    if not kept:
        raise EngineError(f"no reply is left to learn: {len(lessons)} were rejected")
    weighed = scorer if loss == "star_dss" else None
    rows = _rows(writer, kept, weighed, settings.chunk_words)
    start = writer.start() if weighed else None
    generator = torch.Generator().manual_seed(seed)
    writer.model.train()
    parameters = [x for x in writer.model.parameters() if x.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / (0.1 * steps), (steps - step) / (0.9 * steps))
    )
    for _ in range(steps):
        chosen = torch.randint(len(rows), (settings.batch_size,), generator=generator).tolist()
        lost = _loss(writer, batch_of([rows[i] for i in chosen], writer.codec.pad), start, settings)
        if not torch.isfinite(lost):
            raise EngineError("the rewriter's loss is not finite: lower learning_rate")
        optimiser.zero_grad()
        lost.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        rate.step()
        if progress:
            progress(1)
    writer.model.eval()
    return len(lessons) - len(kept)


def accepted(lessons: Sequence[Lesson], scorer: PrefixScorer | None) -> list[Lesson]:
    """The lessons whose whole reply is safe (rejection sampling).

    Args:
        lessons: prompts and replies.
        scorer: of whole replies.

    Returns:
        Those whose probability of being safe is a half or more.

    Raises:
        EngineError: there is no scorer.
    """
    if scorer is None:
        raise EngineError("rejection of unsafe replies needs a scorer")
    scores = scorer.safe([one.reply for one in lessons])
    return [one for one, score in zip(lessons, scores, strict=True) if score >= SAFE]


def denoising(texts: Sequence[str], words: Sequence[str], *, each: int, seed: int) -> list[Lesson]:
    """Lessons that teach a model to leave out what does not belong: it meets no unsafe text.

    Args:
        texts: benign texts.
        words: from which strange words are drawn.
        each: lessons of a text; the first one's prompt is the text itself.
        seed: of words and places.

    Returns:
        ``each`` lessons a text, whose replies are the text.
    """
    random = Random(seed)
    found = []
    for text in texts:
        found.append(Lesson(prompt=text, reply=text))
        parts = re.findall(r"\S+", text)
        for _ in range(each - 1):
            strange = random.choices(words, k=random.randint(1, 5))
            place = random.randint(0, len(parts))
            noisy = " ".join([*parts[:place], *strange, *parts[place:]])
            found.append(Lesson(prompt=noisy, reply=text))
    return found


def batch_of(rows: Sequence[_Row], pad: int) -> Batch:
    """Rows padded at the right to one length; a place's label is the next token.

    Args:
        rows: of :func:`tune`.
        pad: id of padding.

    Returns:
        Tensors (rows, length).
    """
    longest = max(len(row.prompt) + len(row.reply) for row in rows) - 1
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    safe = torch.ones(len(rows), longest)
    for i, row in enumerate(rows):
        whole, first = [*row.prompt, *row.reply], len(row.prompt) - 1
        last = len(whole) - 1
        ids[i, :last] = torch.tensor(whole[:-1])
        mask[i, :last] = 1
        labels[i, first:last] = torch.tensor(row.reply)
        if row.safe is not None:
            safe[i, first:last] = torch.tensor(row.safe)
    scored = rows[0].safe is not None
    return Batch(ids=ids, mask=mask, labels=labels, safe=safe if scored else None)


def _rows(
    writer: Writer, lessons: Sequence[Lesson], scorer: PrefixScorer | None, words: int
) -> list[_Row]:
    replies = [writer.codec.reply(one.reply) for one in lessons]
    if any(len(one.ids) < 2 for one in replies):
        raise EngineError("a reply to learn is empty")
    ends = [one.ends for one in replies]
    texts = [one.reply for one in lessons]
    weights = token_weights(texts, ends, scorer, words) if scorer else [None] * len(lessons)
    return [
        _Row(prompt=writer.codec.prompt(one.prompt), reply=list(reply.ids), safe=safe)
        for one, reply, safe in zip(lessons, replies, weights, strict=True)
    ]


def _loss(writer: Writer, batch: Batch, start: Start | None, settings: RewriterSettings) -> Tensor:
    device = writer.model.device
    ids, mask = batch.ids.to(device), batch.mask.to(device)
    logits = writer.model(input_ids=ids, attention_mask=mask).logits
    return reply_loss(
        logits,
        batch.labels.to(device),
        None if batch.safe is None else batch.safe.to(device),
        start.logits(ids, mask) if start else None,
        settings.kl_weight,
    )
