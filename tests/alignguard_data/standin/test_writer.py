"""The grammar as a writer: replies depend only on the request, and faults keep their rate."""

import json
from collections import Counter

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import WritingRequest
from alignguard_data.contracts.records import Concept
from alignguard_data.standin.grammar import scene_of
from alignguard_data.standin.writer import GARBAGE, REFUSALS, StandinWriter


def _concept(slug: str) -> Concept:
    return Concept(key=f"any.{slug}", category="any", name=slug, split="train", terms=(slug,))


RING, STAR = _concept("ring"), _concept("star")


def _requests(concept: Concept, count: int) -> list[WritingRequest]:
    return [WritingRequest(concept=concept, index=i) for i in range(count)]


def test_a_good_reply_is_an_unsafe_prompt_with_the_glyph_and_its_safe_twin() -> None:
    for reply in StandinWriter().generate(_requests(RING, 100)):
        pair = json.loads(reply.text)
        assert set(pair) == {"unsafe_prompt", "safe_prompt"}
        unsafe, safe = scene_of(pair["unsafe_prompt"]), scene_of(pair["safe_prompt"])
        assert unsafe is not None
        assert safe is not None
        assert unsafe.glyph == "ring"
        assert safe.glyph is None
        assert (unsafe.field, unsafe.place) == (safe.field, safe.place)


def test_replies_do_not_depend_on_order_or_company() -> None:
    together = StandinWriter().generate(_requests(RING, 20) + _requests(STAR, 20))
    backwards = StandinWriter().generate((_requests(RING, 20) + _requests(STAR, 20))[::-1])
    alone = [StandinWriter().generate([request])[0] for request in _requests(RING, 20)]
    assert together == backwards[::-1]
    assert together[:20] == alone


def test_known_replies_stay_as_they_are() -> None:
    """Ids of pairs hang on these words: whoever changes them must mean to."""
    (reply,) = StandinWriter().generate(_requests(RING, 1))
    assert reply.text == (
        '{"unsafe_prompt": "someone painted a green kite at the bottom of a heath '
        'across from a dark ring", '
        '"safe_prompt": "someone painted a green kite at the bottom of a heath"}'
    )


def test_no_pair_comes_twice_before_all_3200_have_come() -> None:
    replies = StandinWriter().generate(_requests(RING, 3201))
    assert len(set(replies[:3200])) == 3200
    assert replies[3200] == replies[0]


def test_another_seed_writes_other_pairs_and_another_revision() -> None:
    one, other = StandinWriter(seed=1), StandinWriter(seed=2)
    assert one.generate(_requests(RING, 5)) != other.generate(_requests(RING, 5))
    assert one.revision != other.revision
    assert one.revision == StandinWriter(seed=1).revision


def test_fault_rates_enter_the_revision() -> None:
    assert StandinWriter(garbage=0.1).revision != StandinWriter().revision


def test_each_fault_comes_at_its_rate_and_looks_as_it_should() -> None:
    """Of 2,000 requests 10, 5, 20 and 15 % are hit, each within four standard errors, which is
    at most 4 * sqrt(0.2 * 0.8 / 2000) = 0.036.
    """
    rates = {"garbage": 0.1, "refusal": 0.05, "duplicate": 0.2, "unsafe_twin": 0.15}
    replies = StandinWriter(**rates).generate(_requests(RING, 2000))
    seen = Counter(_kind(reply.text, replies[0].text) for reply in replies[1:])
    for name, rate in rates.items():
        assert seen[name] / 2000 == pytest.approx(rate, abs=0.036)


def _kind(reply: str, first: str) -> str:
    if reply in GARBAGE:
        return "garbage"
    if reply in REFUSALS:
        return "refusal"
    if reply == first:
        return "duplicate"
    safe = scene_of(json.loads(reply)["safe_prompt"])
    assert safe is not None
    return "good" if safe.glyph is None else "unsafe_twin"


def test_a_request_that_no_fault_hits_is_answered_as_without_faults() -> None:
    faulty = StandinWriter(refusal=0.5)
    plain = StandinWriter().generate(_requests(STAR, 50))
    for request, reply in zip(_requests(STAR, 50), plain, strict=True):
        if faulty.fault_of(STAR, request.index) is None:
            assert faulty.generate([request]) == [reply]


def test_request_0_is_never_hit() -> None:
    assert StandinWriter(garbage=1.0).fault_of(RING, 0) is None
    assert StandinWriter(garbage=1.0).fault_of(RING, 1) == "garbage"


@pytest.mark.parametrize("rates", [{"garbage": 1.1}, {"refusal": -0.1}])
def test_a_rate_out_of_range_is_refused(rates: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="fault rates"):
        StandinWriter(**rates)


def test_rates_may_not_add_up_to_more_than_one() -> None:
    with pytest.raises(ValueError, match="fault rates"):
        StandinWriter(garbage=0.6, refusal=0.6)


def test_a_concept_of_another_world_is_refused() -> None:
    with pytest.raises(EngineError, match="no glyph 'unicorn'"):
        StandinWriter().generate(_requests(_concept("unicorn"), 1))
