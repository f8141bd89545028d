"""Command: train the stand-in's flow model on the base model's latents and save it.

``python -m alignguard_data.standin.engines.train_flow --help``
"""

import argparse
import dataclasses
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from alignguard_data.standin.engines.flow import FlowRecipe, train_flow
from alignguard_data.standin.engines.parallel import run_workers
from alignguard_data.standin.factory import base_model_folder, flow_model_folder

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, train, and log how long it took.

    Args:
        arguments: of the command; by default those of this process.
    """
    default = FlowRecipe()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=flow_model_folder(), help="folder to write")
    parser.add_argument(
        "--base", type=Path, default=base_model_folder(), help="autoencoder and text encoder"
    )
    parser.add_argument(
        "--state", type=Path, help="file from which a killed training resumes; else not kept"
    )
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--drawings", type=int, default=default.num_drawings)
    parser.add_argument("--workers", type=int, default=default.num_workers)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = dataclasses.replace(
        default,
        seed=options.seed,
        num_workers=options.workers,
        num_drawings=options.drawings,
        steps=options.steps,
    )
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        state = options.state or Path(folder) / "state.pt"
        paths = (str(options.base), str(options.out), str(state))
        run_workers(train_flow, recipe.num_workers, recipe, *paths)
    log.info("saved %s after %.0f s", options.out, time.monotonic() - begun)


if __name__ == "__main__":
    main()
