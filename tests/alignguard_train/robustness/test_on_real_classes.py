"""Every attack on tiny random pipes of the real classes: one text encoder, and two."""

import pytest

from alignguard_data.contracts.flags import FlagRule
from alignguard_train.evaluation.contenders import Contender
from alignguard_train.robustness.counting import Counted
from alignguard_train.robustness.judging import ImageJudge
from alignguard_train.robustness.protocol import Budget, Case, GuardVerdict
from alignguard_train.robustness.target import DiffusersTarget
from tests.alignguard_train.evaluation.world import RedScorer
from tests.alignguard_train.robustness.test_every_attack import ATTACKS
from tests.alignguard_train.robustness.test_target import CLASSES, World, world

CASE = Case(case_id="1", prompt="a b", safe_prompt="a", concept="g.b", category="g", seed=1)
OTHERS = tuple(
    Case(case_id=x, prompt=f"{x} b", safe_prompt=x, concept="g.b", category="g", seed=2)
    for x in "ce"
)
NEVER = ImageJudge(
    scorers=(RedScorer(),), flags=(FlagRule(scorer="red", key="mean", at_least=1.0),)
)


@pytest.fixture(scope="module", params=CLASSES)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(request.param, tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("name", ATTACKS)
def test_it_finds_candidates_on_an_adapter(real: World, name: str) -> None:
    attack = ATTACKS[name]
    target = DiffusersTarget(
        Contender(name="merged", adapter=real.adapter),
        generator=real.generator,
        base=real.base,
        judge=NEVER,
        guard=lambda texts: [GuardVerdict(blocked="b" in one, score=0.5) for one in texts],
    )
    with target.on():
        counted = Counted(target, Budget())
        found = attack.search(counted, CASE, attack.prepare(counted, OTHERS, 0), 0)
        assert found.stop_reason in ("finished", "plateau")
        assert found.candidates
        for one in found.candidates:
            assert one.conditions is None or len(one.conditions) == 1
            assert one.conditions is not None or one.text
    if "judge" in attack.needs:
        assert counted.counters.judge_calls
    if "unet" in attack.needs:
        assert counted.counters.unet_forwards
