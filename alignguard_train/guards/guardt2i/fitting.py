"""Trains GuardT2I's decoder on a release's prompts, and makes its guard of a file."""

import dataclasses
import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Progress
from alignguard_data.engines.model_source import resolve_model
from alignguard_train.guards.config import GuardT2ISettings
from alignguard_train.guards.files import GuardHeader
from alignguard_train.guards.guardt2i.decoder import Decoder, Vocabulary, train_decoder
from alignguard_train.guards.guardt2i.guard import GuardT2I
from alignguard_train.guards.guardt2i.similarity import (
    SentenceSimilarity,
    Similarity,
    WordOverlap,
)
from alignguard_train.guards.states import FrozenEncoder
from alignguard_train.guards.training_set import Fitted, TrainingSet

TIED = "model.lm_head.weight"
"""Equal to the input embeddings, so no file holds it."""

log = logging.getLogger(__name__)


def fit_guardt2i(
    settings: GuardT2ISettings,
    training: TrainingSet,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Fitted:
    """Train the decoder on all training prompts, unsafe and benign, without their labels.

    Args:
        settings: of the decoder.
        training: prompts and states; its concepts' terms become the word list.
        seed: of weights and batches.
        progress: called with 1 after each step.

    Returns:
        The decoder's tensors, and header settings.

    Raises:
        EngineError: there is no prompt, or the loss is not finite.
    """
    if not training.prompts:
        raise EngineError("GuardT2I has no prompt to learn from")
    if not training.trained_terms:
        log.warning("no concept here has terms: GuardT2I's word list is empty")
    decoder = new_decoder(settings, training.encoder, seed)
    ids, _ = training.encoder.ids([one.text for one in training.prompts])
    train_decoder(decoder, training.states, ids, settings, seed=seed, progress=progress)
    tensors = {name: x.detach() for name, x in decoder.state_dict().items() if name != TIED}
    return Fitted(
        tensors=tensors,
        settings={
            "settings": dataclasses.asdict(settings),
            "blacklist": training.trained_terms,
            "similarity": similarity_of(settings).version,
        },
    )


def guardt2i_guard(
    header: GuardHeader,
    tensors: Mapping[str, Tensor],
    encoder: FrozenEncoder,
    settings: GuardT2ISettings,
) -> GuardT2I:
    """The guard of a file.

    Args:
        header: of the file.
        tensors: of the file, by name.
        encoder: the frozen encoder to read.
        settings: of the header.

    Returns:
        The guard with its word list.

    Raises:
        EngineError: the similarity is another model here.
        KeyError: the tensors do not fit.
    """
    similarity = similarity_of(settings)
    if similarity.version != header.settings["similarity"]:
        raise EngineError(
            f"GuardT2I was calibrated with {header.settings['similarity']}; this is "
            f"{similarity.version}"
        )
    decoder = new_decoder(settings, encoder, 0)
    missing, strange = decoder.load_state_dict(dict(tensors), strict=False)
    if faults := [*strange, *(name for name in missing if name != TIED)]:
        raise KeyError(f"not this decoder's: {', '.join(faults[:3])}")
    return GuardT2I(header, encoder, decoder, similarity, settings, header.settings["blacklist"])


def new_decoder(settings: GuardT2ISettings, encoder: FrozenEncoder, seed: int) -> Decoder:
    """A decoder with random weights, in the encoder's vocabulary.

    Args:
        settings: sizes.
        encoder: the frozen encoder.
        seed: of the weights.

    Returns:
        It, in evaluation mode.
    """
    tokenizer = encoder.tokenizer
    vocabulary = Vocabulary(
        size=len(tokenizer),
        length=encoder.identity.length,
        begin=int(tokenizer.bos_token_id),
        end=encoder.identity.eos_id,
        pad=int(tokenizer.pad_token_id),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Decoder(encoder.identity.width, vocabulary, settings).eval()


def similarity_of(settings: GuardT2ISettings) -> Similarity:
    """The model that compares texts.

    Args:
        settings: its name, or an empty text for the overlap of words.

    Returns:
        It, not loaded yet.

    Raises:
        EngineError: a package of the name is not installed, or a hub id has no revision.
    """
    if not settings.similarity:
        return WordOverlap()
    try:
        return SentenceSimilarity(resolve_model(settings.similarity), settings.revision)
    except ValueError as error:
        raise EngineError(f"guardt2i.similarity: {error}") from error
