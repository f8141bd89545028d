"""Runs vLLM in an environment of its own: JSON lines in, JSON lines out.

This file is started by its path with another interpreter, which has vLLM and nothing of ours. A
line in holds ``chats``, ``seeds``, the ``schema`` that replies are held to (or null),
``temperature`` and ``max_tokens``; a line out ``replies``, each a text and why it ended, and counts
of tokens. Only what is asked for goes to standard output, as vLLM's own remarks go to standard
error.
"""

import json
import os
import sys


def main() -> None:
    """Load the model that the first line describes, say so, then answer until input ends."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else prints must not spoil the protocol
    setup = json.loads(sys.stdin.readline())
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]
    from vllm.sampling_params import (  # pyright: ignore[reportMissingImports]
        StructuredOutputsParams,
    )

    model = LLM(**setup["engine"])
    out.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        batch = json.loads(line)
        parameters = []
        for seed in batch["seeds"]:
            held = None
            if batch["schema"] is not None:
                held = StructuredOutputsParams(json=batch["schema"])
            parameters.append(
                SamplingParams(
                    temperature=batch["temperature"],
                    max_tokens=batch["max_tokens"],
                    seed=seed,
                    structured_outputs=held,
                )
            )
        found = model.chat(batch["chats"], parameters, use_tqdm=False)
        answer = {
            "replies": [
                # None would mean that vLLM gave an unfinished request back.
                {"text": one.text, "finish_reason": one.finish_reason or "error"}
                for one in (request.outputs[0] for request in found)
            ],
            "input_tokens": sum(len(one.prompt_token_ids) for one in found),
            "output_tokens": sum(len(one.outputs[0].token_ids) for one in found),
        }
        out.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
