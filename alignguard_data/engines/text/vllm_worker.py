"""Runs vLLM in a separate environment: JSON lines in, JSON lines out.

Started by path with another interpreter, which has vLLM and not this package. An input line has
``chats``, ``seeds``, the ``schema`` of the replies (or null), ``temperature`` and ``max_tokens``.
An output line has ``replies``, each with text and finish reason, and token counts. Only answers go
to standard output; vLLM's logs go to standard error.
"""

import json
import os
import sys


def main() -> None:
    """Load the model of the first line, report ready, then answer until input ends."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keep other output off the protocol
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
                # None would mean that vLLM returned an unfinished request.
                {"text": one.text, "finish_reason": one.finish_reason or "error"}
                for one in (request.outputs[0] for request in found)
            ],
            "input_tokens": sum(len(one.prompt_token_ids) for one in found),
            "output_tokens": sum(len(one.outputs[0].token_ids) for one in found),
        }
        out.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
