"""Replies as models send them: the object is found, and nothing that is none is taken for it."""

import json

import pytest

from alignguard_data.contracts.reply_reader import read_fields

UNSAFE, SAFE = "a red field with a bar", "a red field at noon"
PAIR = json.dumps({"unsafe_prompt": UNSAFE, "safe_prompt": SAFE})
OTHER = json.dumps({"unsafe_prompt": "a draft with a bar", "safe_prompt": "a draft"})

READ = {
    "plain": PAIR,
    "indented": json.dumps(json.loads(PAIR), indent=2),
    "byte order mark": "\ufeff" + PAIR,
    "fence": f"```json\n{PAIR}\n```",
    "fence without a language": f"```\n{PAIR}\n```",
    "capital fence": f"```JSON\r\n{PAIR}\r\n```\n",
    "one-line fence": f"```json {PAIR} ```",
    "one-line fence without blanks": f"```{PAIR}```",
    "tildes": f"~~~json\n{PAIR}\n~~~",
    "open fence": f"```json\n{PAIR}",
    "prose around a fence": f"Sure! Here is the pair:\n\n```json\n{PAIR}\n```\nAnything else?",
    "prose around the object": f"Here you go: {PAIR} Hope it helps {{smile}}.",
    "end token": f"{PAIR}<|im_end|>",
    "answer tags": f"<answer>{PAIR}</answer>",
    "thoughts": f"<think>\nThe user wants {{a pair}}.\n</think>\n\n{PAIR}",
    "thoughts with a draft": f"<think>Say {OTHER}? No.</think>{PAIR}",
    "thoughts without the opening tag": f"The user wants {OTHER}.\n</think>\n{PAIR}",
    "empty thoughts": f"<think></think>{PAIR}",
    "thoughts in capitals": f"<THINK>Hm.</THINK>{PAIR}",
    "other tags": f"<reasoning>Hm {OTHER}</reasoning>{PAIR}",
    "square tags": f"[THINK]Hm {OTHER}[/THINK]{PAIR}",
    "channels": f"<|channel|>analysis<|message|>{OTHER}<|channel|>final<|message|>{PAIR}",
    "thoughts after it": f"{PAIR}\n<think>Was that right?",
    "a corrected draft": f"Draft: {OTHER}\nFinal: {PAIR}",
    "one more key": json.dumps({"note": "x", **json.loads(PAIR), "tags": ["a", {"b": 1}]}),
    "list of one": f"[{PAIR}]",
    "fenced list of one": f"```json\n[\n{PAIR}\n]\n```",
    "encoded twice": json.dumps(PAIR),
    "trailing comma": f"{PAIR[:-1]},}}",
    "list and trailing commas": f"[{PAIR[:-1]},\n}},\n]",
    "single quotes": f"{{'unsafe_prompt': '{UNSAFE}', 'safe_prompt': '{SAFE}'}}",
    "typographic quotes": f"{{“unsafe_prompt”: “{UNSAFE}”, “safe_prompt”: “{SAFE}”}}",
    "bare keys": f'{{unsafe_prompt: "{UNSAFE}", safe_prompt: "{SAFE}"}}',
    "no comma": f'{{"unsafe_prompt": "{UNSAFE}"\n "safe_prompt": "{SAFE}"}}',
    "comment": f'{{"unsafe_prompt": "{UNSAFE}", // with it\n"safe_prompt": "{SAFE}"}}',
    "raw newline": PAIR.replace("red field", "red\nfield"),
    "raw newline and trailing comma": PAIR.replace("red field", "red\nfield")[:-1] + ",}",
    "raw tab": PAIR.replace("red field", "red\tfield"),
    "escaped underscores": PAIR.replace("_", "\\_"),
    "escaped quotes": PAIR.replace('"', '\\"'),
    "hidden marks": PAIR.replace("red", "r\u200bed"),
}

NO_PAIR = {
    "nothing": ("", "unparseable"),
    "a mark": ("\ufeff", "unparseable"),
    "thoughts alone": (f"<think>{OTHER}", "unparseable"),
    "thoughts that end in nothing": (f"<think>{OTHER}</think>", "unparseable"),
    "prose": ("Here is your pair: red field", "unparseable"),
    "prose with braces": ("unsafe_prompt {a red field} safe_prompt {a field}", "unparseable"),
    "cut in the last text": (PAIR[:-8], "unparseable"),
    "cut before the brace": (PAIR[:-1], "unparseable"),
    "cut in the first text": (PAIR[:30], "unparseable"),
    "one quote is missing": (PAIR.replace('bar"', "bar"), "unparseable"),
    "no quotes": ("{unsafe_prompt: a red bar, safe_prompt: a red field}", "unparseable"),
    "two halves": ('{"unsafe_prompt": "a red bar"} {"safe_prompt": "a field"}', "schema"),
    "halves with trailing commas": (
        '{"unsafe_prompt": "a red bar",} {"safe_prompt": "a field",}', "unparseable"),
    "a field given twice": (f'{{"unsafe_prompt": "another", {PAIR[1:]}', "unparseable"),
    "a field given twice, misspelt": (
        f'{{"unsafe_prompt": "another", {PAIR[1:-1]},}}', "unparseable"),
    "a number": (json.dumps({"unsafe_prompt": UNSAFE, "safe_prompt": 3}), "schema"),
    "null": (json.dumps({"unsafe_prompt": UNSAFE, "safe_prompt": None}), "schema"),
    "a list for a text": (json.dumps({"unsafe_prompt": [UNSAFE], "safe_prompt": SAFE}), "schema"),
    "one field": (json.dumps({"unsafe_prompt": UNSAFE}), "schema"),
    "texts alone": (json.dumps([UNSAFE, SAFE]), "schema"),
    "a list of two": (f"[{PAIR}, {OTHER}]", "schema"),
    "an empty list": ("[]", "schema"),
    "an empty object": ("{}", "schema"),
    "nested": (f'{{"pair": {PAIR}}}', "schema"),
    "keys in a text": ('{"note": "unsafe_prompt: \'a\', safe_prompt: \'b\'"}', "schema"),
    "deep": ("[" * 100_000, "unparseable"),
    "deep objects": ('{"a":' * 20_000, "unparseable"),
    "braces": ("{" * 100_000, "unparseable"),
    "declines": ("I’m sorry, but I can’t help with that.", "refusal"),
    "declines after thoughts": ("<think>No.</think>\nI cannot help with that.", "refusal"),
    "declines as JSON": ('"I can’t help with that"', "refusal"),
    "declines with an object": ("I can't help with that. {}", "refusal"),
    "declines in full width": ("Ｉ ｃａｎ＇ｔ help with that", "refusal"),
}  # fmt: skip


@pytest.mark.parametrize("reply", READ.values(), ids=READ)
def test_the_pair_is_found_inside_other_text(reply):
    assert read_fields(reply) == (UNSAFE, SAFE)


@pytest.mark.parametrize(("reply", "reason"), NO_PAIR.values(), ids=NO_PAIR)
def test_an_incomplete_pair_has_its_reason(reply, reason):
    assert read_fields(reply) == reason


@pytest.mark.parametrize(
    "text",
    ['a sign "OPEN" in it', "a painter's bar", "a \\ b", "é ü “x”", "a: b, c", "5' 4\" tall"],
)
def test_a_repair_adds_and_loses_no_character(text):
    spelt = f"{{'unsafe_prompt': {json.dumps(text)}, 'safe_prompt': {json.dumps(SAFE)},}}"
    assert read_fields(spelt) == (text, SAFE)


@pytest.mark.parametrize("cut", range(1, len(PAIR)))
def test_no_part_of_a_pair_is_a_pair(cut):
    assert isinstance(read_fields(PAIR[:cut]), str)
    assert isinstance(read_fields(PAIR[cut:]), str)
