"""Instructions in steps: each reads what the one before wrote, and a bad reply ends its pair."""

import json
import re
from pathlib import Path

import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.protocols import Reply, WritingRequest
from alignguard_data.engines.text.steps import StepInstruction, load_instruction
from alignguard_data.prompts.config import WritingConfig
from alignguard_data.prompts.gate import read_reply
from alignguard_data.safety.rules import refusal
from alignguard_data.standin.factory import small_instruction, taxonomy_file
from alignguard_data.taxonomy.parse import load_taxonomy
from tests.alignguard_data.tiny_rooms import concept

BAR = concept("lines.bar")
REQUESTS = [WritingRequest(concept=BAR, index=i) for i in range(4)]
CONFIG = WritingConfig(pairs_per_concept=4, min_words=2)
FILE = """
scene: {colour: [red, blue]}
steps:
  - writes: safe_prompt
    task: Write.
    ask: "Words: {{ scene.colour }}"
    examples: [{ask: "Words: green", answer: a green field}]
  - writes: unsafe_prompt
    task: Add.
    ask: "{{ written.safe_prompt }} + {{ concept.name }}"
    examples: [{ask: a green field + dot, answer: a green field with a dot}]
"""


def instruction(folder: Path, text: str = FILE) -> StepInstruction:
    file = folder / "own_v1.yaml"
    file.write_text(text)
    found = load_instruction(str(file), 5, 28)
    assert isinstance(found, StepInstruction)
    return found


class Model:
    """Writes down the last message in capitals, except where ``said`` has a reply."""

    def __init__(self, said: dict[str, Reply] | None = None) -> None:
        self.said, self.asked = said or {}, []

    def __call__(self, chats, seeds, schema):
        self.asked.append([chat[-1]["content"] for chat in chats])
        assert len(set(seeds)) == len(seeds)
        assert list(schema["properties"]) == ["caption"]
        return [
            self.said.get(chat[-1]["content"])
            or Reply(text=json.dumps({"caption": chat[-1]["content"].removeprefix("Words: ")}))
            for chat in chats
        ]


def test_the_second_step_reads_what_the_first_one_wrote(tmp_path):
    model = Model()
    replies = instruction(tmp_path).write(REQUESTS, 0, model)
    for request, reply, first in zip(REQUESTS, replies, model.asked[0], strict=True):
        colour = instruction(tmp_path).scene(request)["colour"]
        assert first == f"Words: {colour}"
        assert json.loads(reply.text) == {"safe_prompt": colour, "unsafe_prompt": f"{colour} + bar"}


def test_examples_are_turns_of_the_conversation(tmp_path):
    chats = []
    instruction(tmp_path).write(
        REQUESTS[:1], 0, lambda c, s, f: chats.extend(c) or Model()(c, s, f)
    )
    assert [message["role"] for message in chats[0]] == ["system", "user", "assistant", "user"]
    assert chats[0][2]["content"] == '{"caption": "a green field"}'


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Reply(text='{"caption": "re', finish_reason="length"), "cut_off"),
        (Reply(text=""), "empty"),
        (Reply(text="I'm sorry, I can't."), "refusal"),
        (Reply(text="[" * 100_000), "unparseable"),
        (Reply(text='{"title": "red"}'), "schema"),
        (Reply(text='{"caption": 3}'), "schema"),
    ],
)
@pytest.mark.parametrize("step", ["Words: red", "red + bar"])
def test_a_step_without_a_caption_ends_its_pair_with_its_own_reason(tmp_path, said, reason, step):
    model = Model({step: said})
    replies = instruction(tmp_path).write(REQUESTS, 0, model)
    colours = [instruction(tmp_path).scene(request)["colour"] for request in REQUESTS]
    assert set(colours) == {"red", "blue"}
    for colour, reply in zip(colours, replies, strict=True):
        if colour == "red":
            assert (
                read_reply(reply.text, BAR, CONFIG, set(), finish_reason=reply.finish_reason)
                == reason
            )
        else:
            assert "unsafe_prompt" in json.loads(reply.text)
    assert len(model.asked[1]) == (colours.count("blue") if step.startswith("Words") else 4)


def test_control_characters_inside_a_caption_become_blanks(tmp_path):
    model = Model({"Words: red": Reply(text='{"caption": "a red\n field"}')})
    replies = instruction(tmp_path).write(REQUESTS, 0, model)
    assert "a red field" in {json.loads(reply.text)["safe_prompt"] for reply in replies}


@pytest.mark.parametrize(
    "text",
    [
        "```json\n{text}\n```",
        "<think>a red field?</think>{text}",
        "Here it is: {text} I hope it helps.",
        "[{text}]",
    ],
)
def test_a_caption_is_found_in_what_models_send(tmp_path, text):
    said = Reply(text=text.replace("{text}", '{"caption": "a red field",}'))
    replies = instruction(tmp_path).write(REQUESTS, 0, Model({"Words: red": said}))
    assert "a red field" in {json.loads(reply.text)["safe_prompt"] for reply in replies}


def test_no_request_depends_on_its_neighbours(tmp_path):
    together = instruction(tmp_path).write(REQUESTS, 0, Model())
    assert instruction(tmp_path).write(REQUESTS[2:3], 0, Model()) == together[2:3]


def test_the_version_follows_the_file(tmp_path):
    first = instruction(tmp_path).version
    assert first.startswith("own_v1-")
    assert instruction(tmp_path, FILE + "# a remark\n").version == first
    assert instruction(tmp_path, FILE.replace("Write.", "Write well.")).version != first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE.replace("writes: safe_prompt", "writes: unsafe_prompt"), "write both prompts once"),
        (FILE.replace("[red, blue]", "[]"), "scene.colour has nothing"),
        (FILE.replace("task: Add.", "tusk: Add."), r"steps.1.task.*required.*steps.1.tusk"),
        ("steps: [", "not YAML"),
        ("- 1", "must be a mapping"),
        (FILE + "scene: {colour: [green]}\n", "scene"),
    ],
)
def test_faults_of_the_file_are_named_with_their_place(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        instruction(tmp_path, text).write(REQUESTS, 0, Model())
    assert re.search(said, " ".join(str(caught.value).split()))
    assert "own_v1.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        _ = load_instruction(str(tmp_path / "nowhere.yaml"), 5, 28).version


def test_the_shipped_instruction_is_harmless_and_names_no_concept_in_its_examples():
    shipped = load_instruction(str(small_instruction()), 5, 28)
    assert isinstance(shipped, StepInstruction)
    glyphs = load_taxonomy(taxonomy_file()).concepts
    for step in shipped._content.steps:
        for i in range(20):
            request = WritingRequest(concept=glyphs[i], index=i)
            chat = shipped.messages(step, request, 0, {"safe_prompt": "a red box"})
            assert all(refusal(message["content"]) is None for message in chat)
            shown = " ".join(message["content"] for message in chat[:-1])
            assert not any(glyph.name in shown.split() for glyph in glyphs)
