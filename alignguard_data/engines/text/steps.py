"""Instructions in steps, for small models: one task per request, with worked examples.

A YAML file defines what varies between requests, and the steps. Each step writes one prompt of the
pair from the request's scene and the output of earlier steps. Its examples are sent as earlier
turns of the conversation.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jinja2
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.protocols import STOP, Reply, WritingRequest
from alignguard_data.contracts.reply_reader import read_fields
from alignguard_data.engines.text.chat import Ask, Chat, Instruction, number_of, reply_schema
from alignguard_data.storage.yaml_files import read_yaml

REPLY_FIELD = "caption"
"""The field of a step's reply."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Strict):
    """A worked example: question and answering caption."""

    ask: str
    answer: str


class Step(_Strict):
    """One task: the prompt of the pair that it writes, and its question.

    ``ask`` is a Jinja template over ``concept``, ``scene`` and ``written``, the prompts of earlier
    steps. Examples are the same in every request, so an engine can cache them as a prefix.
    """

    writes: Literal["unsafe_prompt", "safe_prompt"]
    task: str
    ask: str
    examples: list[Example] = Field(min_length=1)


class _Content(_Strict):
    scene: dict[str, list[str]]
    steps: list[Step]

    @model_validator(mode="after")
    def _both_prompts_once(self) -> "_Content":
        written = [step.writes for step in self.steps]
        if sorted(written) != ["safe_prompt", "unsafe_prompt"]:
            raise ValueError(f"steps must write both prompts once, not {', '.join(written)}")
        for name, choices in self.scene.items():
            if not choices:
                raise ValueError(f"scene.{name} has nothing to choose from")
        return self


@dataclass(frozen=True, kw_only=True)
class StepInstruction:
    """An instruction file in steps.

    It states no length rules, which small models ignore; the gate checks lengths.
    """

    file: Path
    schemas: tuple[dict[str, Any], ...] = field(default=(reply_schema(REPLY_FIELD),))

    @cached_property
    def _content(self) -> _Content:
        read = read_yaml(self.file)
        faults = list(read.faults)
        try:
            content = _Content.model_validate(read.content)
        except ValidationError as error:
            faults += [read.fault(fault["loc"], fault["msg"]) for fault in error.errors()]
            raise ConfigError(str(self.file), faults) from error
        if faults:
            raise ConfigError(str(self.file), faults)
        return content

    @property
    def version(self) -> str:
        """File name and content hash.

        Raises:
            ConfigError: the file cannot be read or has faults.
        """
        content = self._content.model_dump_json()
        return f"{self.file.stem}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    def scene(self, request: WritingRequest, seed: int = 0) -> dict[str, str]:
        """The scene of a request, drawn from concept, index and seed."""
        return {
            name: choices[number_of(request, seed, name) % len(choices)]
            for name, choices in self._content.scene.items()
        }

    def messages(
        self, step: Step, request: WritingRequest, seed: int, written: Mapping[str, str]
    ) -> Chat:
        """The chat of one step: the task, the examples as turns, and the question.

        Args:
            step: the step to ask for.
            request: concept and index, which choose the scene.
            seed: of the writer.
            written: prompts of earlier steps, by name.

        Returns:
            A system message, two messages an example, and the question.
        """
        chat = [{"role": "system", "content": step.task}]
        for example in step.examples:
            answer = json.dumps({REPLY_FIELD: example.answer}, ensure_ascii=False)
            chat += [
                {"role": "user", "content": example.ask},
                {"role": "assistant", "content": answer},
            ]
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - plain text
        asked = environment.from_string(step.ask).render(
            concept=request.concept, scene=self.scene(request, seed), written=written
        )
        return [*chat, {"role": "user", "content": asked}]

    def write(self, requests: Sequence[WritingRequest], seed: int, ask: Ask) -> list[Reply]:
        """Write one pair per request, step by step.

        Args:
            requests: concepts and indices.
            seed: of the writer.
            ask: calls the engine, once a step with the requests that have all earlier steps.

        Returns:
            One reply a request, in order: the pair, or the first step's reply without a caption,
            which the gate rejects with a reason.

        Raises:
            ConfigError: the instruction file cannot be read or has faults.
        """
        written: list[dict[str, str]] = [{} for _ in requests]
        ended: dict[int, Reply] = {}
        for step in self._content.steps:
            going = [i for i in range(len(requests)) if i not in ended]
            chats = [self.messages(step, requests[i], seed, written[i]) for i in going]
            seeds = [number_of(requests[i], seed, step.writes) & 0x7FFFFFFF for i in going]
            replies = ask(chats, seeds, self.schemas[0]) if going else []
            for i, reply in zip(going, replies, strict=True):
                caption = _caption(reply)
                if caption is None:
                    ended[i] = reply
                else:
                    written[i][step.writes] = caption
        return [
            ended.get(i) or Reply(text=json.dumps(pair, ensure_ascii=False))
            for i, pair in enumerate(written)
        ]


def _caption(reply: Reply) -> str | None:
    read = read_fields(reply.text, (REPLY_FIELD,)) if reply.finish_reason == STOP else "cut_off"
    return None if isinstance(read, str) or not read[0] else read[0]


AnyInstruction = Instruction | StepInstruction


def load_instruction(name: str, min_words: int, max_words: int) -> AnyInstruction:
    """An instruction for a language model; nothing is read until it is used.

    Args:
        name: of a packaged instruction, or path of a YAML file with steps.
        min_words: fewest words of a prompt, as a packaged instruction says it.
        max_words: most words, likewise; a file with steps says neither.

    Returns:
        The instruction.
    """
    if name.endswith((".yaml", ".yml")):
        return StepInstruction(file=Path(name))
    return Instruction(name=name, min_words=min_words, max_words=max_words)
