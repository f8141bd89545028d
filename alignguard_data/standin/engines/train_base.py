"""Command: train the stand-in's base model from scratch and save it as a diffusers folder.

``python -m alignguard_data.standin.engines.train_base --help``
"""

import argparse
import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from diffusers import AutoencoderKL

from alignguard_data.standin.engines.base_model import (
    BaseRecipe,
    reconstruction_error,
    train_base,
)
from alignguard_data.standin.engines.parallel import run_workers
from alignguard_data.standin.factory import base_model_folder

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, train, and log how long it took.

    Args:
        arguments: of the command; by default those of this process.
    """
    default = BaseRecipe()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=base_model_folder(), help="folder to write")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--steps", type=int, default=default.diffusion.steps, help="of the UNet")
    parser.add_argument("--vae-steps", type=int, default=default.vae.steps)
    parser.add_argument("--drawings", type=int, default=default.num_drawings)
    parser.add_argument("--workers", type=int, default=default.num_workers)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = dataclasses.replace(
        default,
        seed=options.seed,
        num_workers=options.workers,
        num_drawings=options.drawings,
        vae=dataclasses.replace(default.vae, steps=options.vae_steps),
        diffusion=dataclasses.replace(default.diffusion, steps=options.steps),
    )
    begun = time.monotonic()
    run_workers(train_base, recipe.num_workers, recipe, str(options.out))
    log.info("saved %s after %.0f s", options.out, time.monotonic() - begun)
    error = reconstruction_error(AutoencoderKL.from_pretrained(options.out / "vae"), recipe.seed)
    log.info("autoencoder: mean squared error %.5f on unseen drawings", error)


if __name__ == "__main__":
    main()
