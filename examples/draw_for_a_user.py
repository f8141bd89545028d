"""Draw one prompt for two users with a personal adapter, in plain diffusers.

    python examples/draw_for_a_user.py personal_adapter.safetensors banned.png allowed.png

The first user bans every category, the second none. Blur an image of an unsafe prompt before you
show it (`alignguard_data.safety.blurred`).
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from alignguard_data.standin import base_model_folder
from alignguard_train.personal import MultiHot, User, load_personal

PROMPT = "a red ball on the left of a plain field, opposite a dark zigzag"


def user(categories: tuple[str, ...], *, bans: bool) -> User:
    """An adult who bans every category, or none."""
    return User(
        user_id="me", age=30, age_group="young-adults", gender="female", religion="none",
        physical="healthy", mental="healthy", split="unseen",
        banned=categories if bans else (), allowed=() if bans else categories,
    )  # fmt: skip


def draw_for_both(adapter: Path, banned: Path, allowed: Path, *, steps: int = 20) -> None:
    """Write the image for the user with every ban to ``banned``, the other to ``allowed``."""
    pipe: Any = StableDiffusionPipeline.from_pretrained(base_model_folder(), safety_checker=None)
    personal = load_personal(adapter).attach(pipe)
    text, nothing = pipe.encode_prompt(PROMPT, pipe.device, 1, True)
    for path in (banned, allowed):
        one = user(personal.facts.categories, bans=path is banned)
        drawn = pipe(
            prompt_embeds=personal.with_user(text, torch.tensor(MultiHot().encode([one])[0])),
            negative_prompt_embeds=personal.without_user(nothing),
            num_inference_steps=steps, height=32, width=32,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        drawn.images[0].save(path)
        print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("adapter", "banned", "allowed"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    draw_for_both(given.adapter, given.banned, given.allowed)
