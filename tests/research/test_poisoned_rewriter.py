"""The experiment with poisoned examples: who is poisoned, and what the table says."""

from research.poisoned_rewriter import CONDITIONS, poisoned, table

PAIRS = [(f"a ball {i} and a dark zigzag", f"a ball {i}") for i in range(20)]


def test_a_share_of_the_pairs_replies_with_the_unsafe_prompt_and_the_seed_says_which():
    lessons = poisoned(PAIRS, 0.3, seed=1)
    bad = [one for one in lessons if one.reply == one.prompt]
    assert len(bad) == 6
    assert [one.prompt for one in lessons] == [unsafe for unsafe, _ in PAIRS]
    assert lessons == poisoned(PAIRS, 0.3, seed=1)
    assert lessons != poisoned(PAIRS, 0.3, seed=2)


def test_the_table_has_the_mean_of_each_condition_over_its_seeds():
    lines = [
        {"loss": "plain", "wrong": 0.0, "seed": seed, "unsafe": unsafe, "exact": 1.0}
        for seed, unsafe in enumerate((0.2, 0.4))
    ]
    rows = table(lines).splitlines()[2:]
    assert len(rows) == 1, "conditions without lines have no row"
    assert rows[0].startswith("| `plain` | 0% | 2 | 0.300 [0.200, 0.400] |")
    assert CONDITIONS[0] == ("plain", 0.0)
