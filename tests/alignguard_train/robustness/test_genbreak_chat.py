"""GenBreak with a chat model: what its trainings change, what never reaches a target, faults."""

import dataclasses
import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignguard_data.contracts.errors import EngineError
from alignguard_data.engines.model_source import ModelSource
from alignguard_train.robustness.attacks.chat_model import ChatModel, ChatSettings
from alignguard_train.robustness.attacks.chat_training import (
    Reinforced,
    Supervised,
    reinforce,
    supervise,
)
from alignguard_train.robustness.attacks.genbreak_chat import GenBreakChat, drawable
from alignguard_train.robustness.attacks.kept_state import pack
from alignguard_train.robustness.config import AttackConfig
from alignguard_train.robustness.counting import Counted
from alignguard_train.robustness.protocol import Budget
from alignguard_train.robustness.room import attack_all, spec
from tests.alignguard_train.robustness.room_world import (
    CONFIG,
    Scorer,
    build,
    cases_of,
    killed_when_it_says,
    rebuilt,
)
from tests.alignguard_train.robustness.small_target import TWINS, WORDS, SmallTarget, case
from tests.alignguard_train.robustness.tiny_chat import INSTRUCTION, tiny_chat

SMALL: dict[str, Any] = {
    "instruction": INSTRUCTION,
    "pairs": 4, "rounds": 1, "batch": 4, "accumulated": 1, "sft_lr": 1e-3,
    "steps": 2, "seeds": 2, "group": 2, "lr": 1e-3, "write": 6, "tries": 3, "device": "cpu",
}  # fmt: skip
REFUSED = "child"
"""A word that the rules about minors refuse."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat(tmp_path_factory.mktemp("chat"))


def attack_on(folder: Path, **changes: Any) -> GenBreakChat:
    return GenBreakChat(red_team=str(folder), **{**SMALL, **changes})


def chat_of(folder: Path) -> ChatModel:
    settings = ChatSettings(
        model=str(folder), revision=None, instruction=INSTRUCTION, write=6, temperature=1.0,
        rank=8, device="cpu",
    )  # fmt: skip
    return ChatModel(settings, seed=0)


def loss(chat: ChatModel, pairs: list[tuple[str, str]]) -> float:
    """Mean negative log likelihood of a token of the answers."""
    found = []
    for prompt, answer in pairs:
        asked = chat.settings.asked("angular", prompt)
        start = chat.tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, return_dict=True
        )["input_ids"]
        ids = torch.tensor([[*start, *chat.tokenizer(answer).input_ids]])
        with torch.no_grad():
            logs = chat.network(ids).logits[0, :-1].log_softmax(-1)
        told = logs.gather(-1, ids[0, 1:, None])[len(start) - 1 :, 0]
        found.append(float(-told.mean()))
    return sum(found) / len(found)


def rewrites(things: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(f"a red {thing}", f"a {colour} {thing} dark star")
            for thing in things for colour in ("blue", "green")]  # fmt: skip


def test_supervised_learning_lowers_the_loss_on_rewrites_that_it_never_saw(folder: Path) -> None:
    chat, held_out = chat_of(folder), rewrites(("boat", "tree"))
    before = loss(chat, held_out)
    taught = [(chat.settings.asked("angular", prompt), answer)
              for prompt, answer in rewrites(("ball", "box", "kite")) * 8]  # fmt: skip
    how = Supervised(epochs=2, batch=8, accumulated=1, lr=2e-2, weight_decay=0.0)
    supervise(chat, taught, how, 0)
    assert loss(chat, held_out) < before - 0.5


def stars(answers: list[str]) -> list[float]:
    return [sum(word == "star" for word in one.split()) / 6 for one in answers]


def test_grpo_raises_the_reward(folder: Path) -> None:
    chat = chat_of(folder)
    asked = [chat.settings.asked("angular", "a red ball")] * 40
    before = np.mean(stars(chat.answers(asked, 1)))
    how = Reinforced(group=16, seeds=1, lr=2e-2, clip=0.2, kl=0.0)
    reinforce(chat, asked[:16], lambda _, answers: stars(answers), how, 0)
    assert np.mean(stars(chat.answers(asked, 1))) > before + 0.1


def test_rewards_are_of_the_question_that_was_asked(folder: Path) -> None:
    chat, places = chat_of(folder), list[list[int]]()

    def watched(questions: list[int], answers: list[str]) -> list[float]:
        places.append(questions)
        return [0.0] * len(answers)

    asked = [chat.settings.asked("angular", word) for word in ("ball", "box", "kite", "tree")]
    reinforce(chat, asked, watched, Reinforced(group=2, seeds=2, lr=0, clip=0.2, kl=0.1), 0)
    assert [sorted(one) for one in places] == [[0, 0, 1, 1], [2, 2, 3, 3]]


def test_the_divergence_holds_it_near_to_what_it_was_taught(folder: Path) -> None:
    """Not to the model before supervised learning: its own LoRA is the reference."""

    def moved(kl: float) -> float:
        chat = chat_of(folder)
        asked = [chat.settings.asked("angular", "a red ball")] * 8
        taught = [(asked[0], "a blue ball dark star")] * 16
        supervise(chat, taught, Supervised(epochs=1, batch=4, accumulated=1, lr=1e-2,
                                           weight_decay=0.0), 0)  # fmt: skip
        start = chat.lora
        reinforce(chat, asked, lambda _, answers: stars(answers),
                  Reinforced(group=4, seeds=1, lr=1e-2, clip=0.2, kl=kl), 0)  # fmt: skip
        return sum(float((chat.lora[name] - one).square().sum()) for name, one in start.items())

    assert moved(0.0) > 0
    assert moved(0.0) != moved(50.0)


def test_the_same_seed_gives_the_same_lora_and_another_seed_another(folder: Path) -> None:
    first, again, other = (attack_on(folder).prepare(SmallTarget(), TWINS, seed)
                           for seed in (0, 0, 1))  # fmt: skip
    assert pack(first) == pack(again)
    assert pack(first) != pack(other)


def test_training_leaves_the_global_random_numbers_alone_and_prints_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1], random.getstate()
    attack_on(folder).prepare(SmallTarget(), TWINS, 0)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()
    assert capfd.readouterr() == ("", "")


def test_its_steps_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "alignguard_train"):
        attack_on(folder).prepare(SmallTarget(), TWINS, 0)
    said = [record.getMessage() for record in caplog.records]
    assert [one.partition(":")[0] for one in said if "step" in one] == [
        "supervised step 1 of 1", "GRPO step 1 of 2", "GRPO step 2 of 2",
    ]  # fmt: skip
    assert not [one for one in said if any(word in one for word in ("zigzag", "kite"))]


def test_no_trainer_reports_to_a_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent() -> None:
        raise AssertionError("it reports")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._telemetry._start_telemetry_thread", sent)
    attack_on(folder).prepare(SmallTarget(), TWINS, 0)


def test_every_image_is_counted_and_a_budget_ends_the_training(folder: Path) -> None:
    free, held = Counted(SmallTarget(), Budget()), Counted(SmallTarget(), Budget(images=9))
    attack_on(folder).prepare(free, TWINS, 0)
    assert attack_on(folder).prepare(held, TWINS, 0) is not None
    used = free.counters
    assert len(TWINS) < used.images <= len(TWINS) + 2 * 2 * 2
    assert used.images == used.judge_calls == used.guard_calls
    assert held.counters.images == 8


class Watched(SmallTarget):
    """Keeps every text that it draws or its guard reads."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.texts: list[str] = []

    def render(self, texts: Any, seeds: Any, *, base: bool = False) -> Any:
        self.texts += texts
        return super().render(texts, seeds, base=base)

    def guard(self, texts: Any) -> Any:
        self.texts += texts
        return super().guard(texts)


def test_a_rewrite_that_the_rules_refuse_never_reaches_the_target(tmp_path: Path) -> None:
    folder = tiny_chat(tmp_path, words=(*["ball", "star", "tree"], REFUSED))
    attack, target = attack_on(folder, tries=24), Watched()
    prepared = attack.prepare(target, TWINS, 0)
    found = attack.search(target, case(), prepared, 0)
    assert found.notes["not_drawn"] > 0
    assert found.candidates
    assert target.texts
    assert not [text for text in target.texts if REFUSED in text]


def test_a_rewrite_that_must_not_be_drawn_has_the_lowest_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str], list[float]]] = []

    def watched(chat: Any, asked: Any, rewards: Any, how: Any, seed: int) -> None:
        texts = [f"a {REFUSED}", "", "a ball", "a ball"]
        seen.append((texts, rewards([0, 0, 1, 1], texts)))
        seen.append((texts, rewards([0, 0, 1, 1], texts)))

    monkeypatch.setattr("alignguard_train.robustness.attacks.genbreak_chat.reinforce", watched)
    attack_on(tiny_chat(tmp_path)).prepare(SmallTarget(), TWINS, 0)
    for _, rewards in seen:
        assert rewards[0] == rewards[1] <= min(rewards[2:])
    assert seen[0][1][0] == -2.5


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("a ball", "a ball"), ("", ""), (f"a {REFUSED}", ""),
     (" ".join(["ball"] * 12), " ".join(["ball"] * 10)),
     (" ".join(["ball"] * 12) + f" {REFUSED}", "")],
)  # fmt: skip
def test_an_answer_becomes_a_prompt_that_the_encoder_reads_whole(answer, expected) -> None:
    assert drawable(SmallTarget().vocabulary, answer) == expected


def test_a_model_that_answers_nothing_is_an_outcome(tmp_path: Path) -> None:
    attack, target = attack_on(tiny_chat(tmp_path, ends_at_once=True)), Counted(SmallTarget(),
                                                                             Budget())  # fmt: skip
    prepared = attack.prepare(target, TWINS, 0)
    assert target.counters.images == 0
    found = attack.search(target, case(), prepared, 0)
    assert (found.stop_reason, found.candidates) == ("no_answer", ())
    assert found.counters.images == 1  # the unchanged prompt


def test_without_trl_the_extra_is_named_before_anything_is_asked(folder, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n == "trl" else find(n))
    target = Counted(SmallTarget(), Budget())
    with pytest.raises(EngineError, match=r"needs trl: pip install 'alignguard\[redteam\]'"):
        attack_on(folder).prepare(target, TWINS, 0)
    assert target.counters.images == 0


def test_several_gpus_are_refused(folder, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(EngineError, match="trains on one GPU, and 2 are visible"):
        attack_on(folder, device="auto").prepare(SmallTarget(), TWINS, 0)


NO_MODEL: dict[str, tuple[Any, str]] = {
    "a model without a chat template": (
        lambda at: tiny_chat(at, template=None), "has no chat template"
    ),
    "a folder without a model": (lambda at: at, "cannot be loaded"),
    "a name without a revision": (lambda _: "someone/chat", "a hub id needs a revision"),
    "no name": (lambda _: "", "needs red_team"),
}  # fmt: skip


@pytest.mark.parametrize("fault", NO_MODEL)
def test_what_is_no_chat_model_is_refused_before_anything_is_asked(tmp_path, fault: str) -> None:
    made, message = NO_MODEL[fault]
    target = Counted(SmallTarget(), Budget())
    with pytest.raises(EngineError, match=message):
        attack_on(made(tmp_path)).prepare(target, TWINS, 0)
    assert target.counters.images == 0


def test_a_lora_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    other = attack_on(folder, rank=2).prepare(SmallTarget(), TWINS, 0)
    with pytest.raises(EngineError, match="does not fit"):
        attack_on(folder).search(SmallTarget(), case(), other, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"pairs": 0}, "must be 1 or more: pairs is 0"), ({"group": 1}, "must be 2 or more: group"),
     ({"lr": -1.0}, "must be 0 or more: lr is -1"), ({"temperature": 0.0}, "temperature must be"),
     ({"device": "tpu"}, "device must be auto or cpu, got 'tpu'"),
     ({"instruction": "again"}, "instruction has no {prompt}")],
)  # fmt: skip
def test_a_parameter_out_of_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"genbreak_chat: {message}"):
        GenBreakChat(red_team="x", **changes)


@pytest.mark.parametrize("given", [{}, {"red_team": ""}, {"red_team": 3}])
def test_a_profile_must_name_the_chat_model(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"genbreak_chat needs params.red_team"):
        AttackConfig(name="genbreak_chat", params=given)


def matrix(folder: Path) -> Any:
    params = {**SMALL, "red_team": str(folder), "sft_lr": 1e-3}
    return dataclasses.replace(
        CONFIG,
        attacks=(AttackConfig(name="genbreak_chat", params=params),),
        targets=("base",),
    )


def test_the_rooms_fingerprint_is_of_the_models_content_not_of_its_path(tmp_path: Path) -> None:
    data, models = build(tmp_path / "world")
    first = spec(data, models, matrix(tiny_chat(tmp_path / "a" / "chat")))
    moved = spec(data, models, matrix(tiny_chat(tmp_path / "b" / "chat")))
    other = spec(data, models, matrix(tiny_chat(tmp_path / "c" / "chat", words=WORDS[:9])))
    assert first.fingerprint == moved.fingerprint != other.fingerprint
    assert str(tmp_path) not in str(first.config)
    assert first.models["chat"] == ModelSource(str(tmp_path / "a" / "chat")).revision


PREPARED = """
import sys, time
from pathlib import Path
from alignguard_train.robustness.attacks.genbreak_chat import GenBreakChat
from alignguard_train.robustness.room import attack_all
from tests.alignguard_train.robustness.room_world import build
from tests.alignguard_train.robustness.test_genbreak_chat import matrix

def waits(*given):
    print("prepared", flush=True)
    time.sleep(600)

GenBreakChat.search = waits
attack_all(*build(Path(sys.argv[1])), matrix(Path(sys.argv[2])))
"""


def test_kill_9_after_the_training_does_not_train_again(folder, tmp_path, monkeypatch) -> None:
    killed_when_it_says("prepared", PREPARED, tmp_path / "killed", folder)
    whole, models = build(tmp_path / "whole")
    made = attack_all(whole, models, matrix(folder))

    def again(*_: Any) -> None:
        raise AssertionError("it trains again")

    monkeypatch.setattr(GenBreakChat, "prepare", again)
    data = dataclasses.replace(whole, root=tmp_path / "killed")
    resumed = attack_all(data, rebuilt(tmp_path / "killed", Scorer()), matrix(folder))
    assert resumed.content_id == made.content_id
    assert {row.attack for row in cases_of(data)} == {"no_attack", "genbreak_chat"}


def test_the_module_loads_without_trl() -> None:
    """The registry imports it to make the attack; only training needs the extra."""
    code = (
        "import sys; sys.modules['trl'] = None; "
        "from alignguard_train.robustness.registry import make_attack; make_attack('genbreak_chat')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
