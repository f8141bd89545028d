"""The study: its lines survive a kill, its shares and verdicts are those worked out by hand."""

import dataclasses
import json
from collections import Counter

import pytest

from alignguard_data.contracts.sampling import Sampling
from alignguard_data.standin.factory import taxonomy_file
from alignguard_data.taxonomy.parse import load_taxonomy
from alignguard_train.contracts.intervals import Interval, OverTrainings
from alignguard_train.contracts.recipes import ExpertRecipe
from research.study import claims, page, peer_lines, results, separated
from research.study.flow_trials import FlowWorld
from research.study.laboratory import carry_out
from research.study.reading import Difference, cells, difference
from research.study.scale_trials import ONE_OF_MANY
from research.study.side_by_side import world_of
from research.study.trial import Merged, Trained, Trial, adapter_key, parts_of
from research.study.trials import EXPERIMENTS, all_trials
from research.study.world import RECIPE, World

CONCEPTS = tuple(load_taxonomy(taxonomy_file()).concepts)
TRIALS = all_trials(CONCEPTS, 2)


def line(trial: Trial, flagged: str, right: str = "", residue: str = "") -> dict[str, object]:
    return {
        "key": trial.key, "flagged": flagged, "residue": residue or flagged,
        "right": right or "1" * len(flagged), "training_steps": 10,
        "training_cpu_seconds": 2.0, "merging_cpu_seconds": 0.0,
        "logit": 1.0, "solved": 1.0, "left": 0.0,
    }  # fmt: skip


def trial(arm: str, seed: int, *, x: float = 1.0, experiment: str = "data") -> Trial:
    """Two concepts of two prompts each; the first is trained on."""
    return Trial(
        experiment=experiment, arm=arm, x=x, seed=seed, adapter=None, scenes="score",
        seen=("a.x",), measured=("a.x", "a.y"), prompts=2,
    )  # fmt: skip


def lines(*found: dict[str, object]) -> dict[str, dict[str, object]]:
    return {str(one["key"]): one for one in found}


def test_every_trial_has_a_key_of_its_own_that_does_not_change():
    keys = [trial.key for trial in TRIALS]
    assert len(set(keys)) == len(keys)
    assert keys == [trial.key for trial in all_trials(CONCEPTS, 2)]
    assert keys == [trial.key for trial in all_trials(CONCEPTS, 5)][: len(keys)]


def test_a_stopped_study_has_whole_seeds():
    seeds = [trial.seed for trial in TRIALS]
    assert seeds == sorted(seeds)
    assert {trial.experiment for trial in TRIALS} == set(EXPERIMENTS)


def test_all_single_has_the_steps_of_all_experts_together():
    groups: dict[tuple[float, str], set[int]] = {}
    for one in TRIALS:
        if one.experiment == "merging" and one.seed == 0:
            count = one.arm.rpartition(", ")[2]
            steps = sum(part.steps for part in parts_of(one.adapter))
            groups.setdefault((one.x, count), set()).add(steps)
    assert groups == {
        (30, "3 experts"): {90},
        (30, "7 experts"): {210},
        (120, "3 experts"): {360},
        (120, "7 experts"): {840},
    }


def test_what_was_chosen_is_scored_on_other_scenes():
    chosen = [
        one
        for one in TRIALS
        if (one.experiment == "merging" and " x " in one.arm) or one.experiment == "gating"
    ]
    counted = Counter((one.arm, one.x, one.seed, one.scenes) for one in chosen)
    assert {scenes for *_, scenes in counted} == {"choose", "score"}
    assert all(count == 1 for count in counted.values())
    assert {one.scenes for one in TRIALS if one not in chosen} == {"score"}


def test_a_merge_is_scored_at_the_scale_that_other_scenes_chose():
    """All choosing lines of `ties` at 30 steps: scale 1.5 leaves nothing and breaks nothing."""
    choosing = [
        one
        for one in TRIALS
        if one.scenes == "choose" and one.arm.startswith("ties x") and one.x == 30
    ]
    assert len(choosing) == 2 * len(ONE_OF_MANY)
    bits = 3 * len(CONCEPTS)
    known = lines(
        *(line(one, ("0" if "x 1.5" in one.arm else "1") * bits, "1" * bits) for one in choosing)
    )

    def scored(lines_known):
        trials = all_trials(CONCEPTS, 3, lines_known)
        return [one for one in trials if one.arm.startswith("ties x") and one.scenes == "score"]

    assert {(one.arm, one.x) for one in scored(known)} == {("ties x 1.5, 7 experts", 30)}
    assert [one.seed for one in scored(known)] == [0, 1, 2]
    known.popitem()  # while one choosing line is missing nothing is chosen
    assert scored(known) == []


def test_merges_share_the_experts_that_they_are_made_of():
    parts = [p for one in TRIALS if isinstance(one.adapter, Merged) for p in parts_of(one.adapter)]
    assert len({adapter_key(part) for part in parts}) < len(parts) / 5
    assert adapter_key(Trained(concepts=("a",), steps=1, seed=0)) != adapter_key(
        Trained(concepts=("a",), steps=1, seed=1)
    )


def test_a_line_that_a_kill_cut_short_is_done_again_and_the_next_is_whole(tmp_path):
    path = tmp_path / "results.jsonl"
    results.add({"key": "a", "n": 1}, path)
    path.write_bytes(path.read_bytes() + b'{"key": "b", "n"')
    assert set(results.read(path)) == {"a"}
    results.add({"key": "b", "n": 2}, path)
    assert {key: row["n"] for key, row in results.read(path).items()} == {"a": 1, "b": 2}


def test_shares_are_of_removed_and_of_other_concepts():
    """Prompts 1 and 2 are of the removed concept: seeds 1 of 2 and 0 of 2; others 1 of 2, twice."""
    trials = [trial("arm", 0), trial("arm", 1)]
    known = lines(line(trials[0], "1001"), line(trials[1], "0010"))
    (cell,) = cells(known, trials, "data", "score").values()
    seen, unseen = cell.share("flagged", "seen"), cell.share("flagged", "unseen")
    assert seen
    assert unseen
    assert (seen.value, unseen.value) == (0.25, 0.5)
    assert seen.n == 2  # prompts: both seeds of a prompt count as one
    assert cell.seeds_share("flagged", "seen") == (0.0, 0.5)


def test_what_another_training_turns_round_is_open():
    """Five pairs a concept leave nothing in one training and all in the other; two always half."""
    trials = [trial("All-single", seed, x=x) for seed in (0, 1) for x in (2, 5)]
    flags = ("1011", "0011", "1011", "1111")
    known = lines(*(line(one, text) for one, text in zip(trials, flags, strict=True)))
    (verdict,) = claims.data(cells(known, trials, "data", "score"))
    ip = verdict.ip.interval
    assert (ip.value, verdict.word) == (0.0, "open")
    assert ip.low < -0.5
    assert ip.high > 0.5


def test_differences_are_over_the_seeds_that_both_have():
    """Seed 0: 1 of 2 less 0 of 2; seed 1 is the first arm's alone."""
    one, other = [trial("one", 0), trial("one", 1)], [trial("other", 0)]
    known = lines(line(one[0], "1000"), line(one[1], "0000"), line(other[0], "0000"))
    found = cells(known, [*one, *other], "data", "score")
    assert difference(found["one", 1.0], found["other", 1.0], "flagged").interval.value == 0.5


def verdict_of(flagged: str, right: str, *, seeds: int = 5) -> claims.Verdict:
    """Five pairs a concept against two, which flagged every image and drew every scene.

    Each character stands for 40 prompts of either concept.
    """
    trials = [
        dataclasses.replace(trial("All-single", seed, x=x), prompts=80)
        for seed in range(seeds)
        for x in (2, 5)
    ]
    texts = {2: ("1" * 160, "1" * 160)}
    texts[5] = ("".join(c * 40 for c in flagged), "".join(c * 40 for c in right))
    known = lines(*(line(one, *texts[int(one.x)]) for one in trials))
    (verdict,) = claims.data(cells(known, trials, "data", "score"))
    return verdict


@pytest.mark.parametrize(
    ("flagged", "right", "word"),
    [
        ("0000", "1111", "holds"),
        ("1111", "1111", "alike"),
        ("0000", "0000", "a trade"),
        ("1111", "0000", "the opposite holds"),
    ],
)
def test_a_verdict_says_what_both_measures_allow(flagged, right, word):
    assert verdict_of(flagged, right).word == word


def test_one_training_is_no_verdict():
    assert verdict_of("0000", "1111", seeds=1).word == "one training"


def found(low: float, high: float, error: float = 0.01) -> Difference:
    """A difference in the middle of its interval; the smaller its error, the surer."""
    middle = (low + high) / 2
    test = OverTrainings(
        value=middle, centre=middle, error=error, freedom=50, kind="difference", prompts=130
    )
    return Difference(interval=Interval(value=middle, low=low, high=high, n=130), test=test)


@pytest.mark.parametrize(
    ("ip", "kept", "word"),
    [
        # IP is surely less; safe scenes may be 9 points fewer: nothing is kept yet.
        (found(-0.5, -0.3), found(-0.09, 0.05, 0.03), "less IP, scenes open"),
        (found(-0.5, -0.3), found(-0.049, 0.05, 0.02), "holds"),
        # Safe scenes surely more, and IP 6 points more, anything from 0 to 17: it beats nothing.
        (found(0.0, 0.167, 0.05), found(0.3, 0.5), "more scenes, IP open"),
        (found(0.0, 0.167, 0.05), found(-0.04, 0.04), "open"),
        (found(0.3, 0.5), found(-0.05, 0.03), "the opposite holds"),
        (found(0.3, 0.5), found(-0.05, 0.09, 0.03), "more IP, scenes open"),
        (found(-0.04, 0.04), found(-0.5, -0.3), "the opposite holds"),
        (found(-0.09, 0.04, 0.03), found(-0.5, -0.3), "fewer scenes, IP open"),
        (found(-0.5, -0.3), found(-0.5, -0.3), "a trade"),
        (found(-0.04, 0.04, 0.02), found(-0.04, 0.04, 0.02), "alike"),
        (found(-0.04, 0.06, 0.02), found(-0.04, 0.04, 0.02), "open"),
    ],
)
def test_a_claim_holds_where_one_measure_is_better_and_the_other_keeps_its_margin(ip, kept, word):
    one = claims.Verdict(says="", ip=ip, kept=kept, seeds=5)
    assert claims.judged([one])[0].word == word


def test_a_difference_has_to_count_among_all_comparisons_of_its_table():
    """p is 0.02: enough alone (two measures: 0.04), not among ten comparisons that say nothing."""
    barely = claims.Verdict(says="", ip=found(-0.2, 0.0, 0.041), kept=found(0, 0), seeds=5)
    nothing = [
        claims.Verdict(says="", ip=found(-0.01, 0.01), kept=found(0, 0), seeds=5) for _ in range(10)
    ]
    assert claims.judged([barely])[0].word == "holds"
    assert claims.judged([barely, *nothing])[0].word == "open"


def test_holm_by_hand():
    """0.01 is below 0.05 / 3, 0.02 below 0.05 / 2, 0.06 is not below 0.05; 0.03 x 2 stops early."""
    assert claims.holm([0.02, 0.06, 0.01], 0.05) == [True, False, True]
    assert claims.holm([0.04, 0.03, 0.01], 0.05) == [False, False, True]
    assert claims.holm([], 0.05) == []


def test_what_comes_later_is_judged_by_what_is_forgotten_too():
    """Nothing of the new concept is left by either; the old one's images are flagged again."""
    trials = [trial(arm, 0, experiment="later") for arm in ("of six, trained on", "+ expert")]
    known = lines(line(trials[0], "0011"), line(trials[1], "0000"))
    (verdict,) = claims.later(cells(known, trials, "later", "score"))
    assert verdict.ip.interval.value == -0.5
    assert verdict.says == "+ expert beats training on"


def test_a_number_of_concepts_is_held_up_to_the_first_that_fails():
    """Held at 1; at 3 a glyph is left; at 7 it would hold again, which does not count."""
    trials = [trial("arm", 0, x=x, experiment="concepts") for x in (1, 3, 7)]
    flags = ("0000", "1000", "0000")
    known = lines(*(line(one, text) for one, text in zip(trials, flags, strict=True)))
    assert claims.held(cells(known, trials, "concepts", "score")) == {"arm": 1.0}


def test_the_best_sum_has_the_least_ip_and_damage_together(monkeypatch):
    monkeypatch.setattr(claims, "SCALES", (0.2, 1.0))
    names = [f"sum x {scale}, 7 experts" for scale in (0.2, 1.0)]
    trials = [trial(name, 0, x=30, experiment="merging") for name in names]
    # 0.2: half of the glyphs left, nothing broken. 1.0: none left, three of four scenes broken.
    known = lines(line(trials[0], "1000", "1111"), line(trials[1], "0000", "1000"))
    assert claims.best_sums(cells(known, trials, "merging", "score")) == {30: "sum x 0.2"}


def test_the_page_is_drawn_from_any_part_of_the_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "study.md")
    monkeypatch.setattr(page, "RESULTS", tmp_path / "study" / "results.jsonl")
    some = TRIALS[::3]
    known = lines(*(line(one, ("110" * 100)[: len(one.measured) * one.prompts]) for one in some))
    page.draw(known, TRIALS)
    text = (tmp_path / "study.md").read_text()
    assert f"{len(some)} of {len(TRIALS)} trials are done" in text
    assert (tmp_path / "study" / "remedies.png").stat().st_size > 10_000
    page.draw({}, TRIALS)
    assert "Not measured yet." in (tmp_path / "study.md").read_text()


def test_separations_are_means_over_the_seeds_of_an_arm():
    """0.5 and 1.5: a mean of 1.00; the line of another experiment, or without them, is left out."""
    own = [one for one in TRIALS if one.experiment == "costs" and one.arm == "DPO"][:2]
    known = {
        one.key: {"logit": value, "solved": 1.0, "left": 0.25}
        for one, value in zip(own, (0.5, 1.5), strict=True)
    }
    known |= {one.key: {} for one in TRIALS if one.arm == "both"}
    (row,) = separated.rows(known, TRIALS)
    assert row == ["DPO", "2", "1.00 (0.50–1.50)", "1.00 (1.00–1.00)", "0.25 (0.25–0.25)"]


def test_peers_are_shown_as_means_over_their_seeds(tmp_path):
    """IP 0.5 and 0.25 are 37.5 %; 3 s against 2 s are 1.50; unseen prompts were none."""
    shares = {name: {"value": 1.0, "n": 4} for name in ("ip", "residue", "fidelity")}
    common = {"method": "sld", "ip_unseen": None, "training_seconds": 0.0, **shares}
    one = {"seconds_per_image": 3.0, "base_seconds_per_image": 2.0, "ip_seen": {"value": 0.5}}
    two = {"seconds_per_image": None, "base_seconds_per_image": None, "ip_seen": {"value": 0.25}}
    path = tmp_path / "peers.jsonl"
    path.write_text("".join(json.dumps({**common, **own}) + "\n" for own in (one, two)))
    (row,) = peer_lines.rows(path)
    assert row[:3] == ["sld", "2 (8 prompts)", "37.5 % (25–50)"]
    assert row[3] == "–"
    assert row[6] == "1.50"


@pytest.mark.slow
def test_a_trial_gives_the_same_line_on_another_machine(tmp_path):
    """Two folders that share nothing: pairs, experts and merges are made twice, bit for bit."""
    concepts = tuple(concept.key for concept in CONCEPTS[:2])
    parts = tuple(Trained(concepts=(key,), steps=2, seed=3) for key in concepts)
    wanted = Trial(
        experiment="merging", arm="RegMean", x=2, seed=3, scenes="choose", seen=concepts[:1],
        adapter=Merged(parts=parts, strategy="regmean", seed=3), measured=concepts, prompts=3,
    )  # fmt: skip
    found = [carry_out(World(tmp_path / name, pairs=3), wanted) for name in "ab"]
    for one in found:
        assert one.pop("training_cpu_seconds") > 0
        assert one.pop("merging_cpu_seconds") > 0
    assert found[0] == found[1]
    assert len(found[0]["flagged"]) == len(found[0]["right"]) == 6
    again = carry_out(World(tmp_path / "a", pairs=3), wanted)
    assert again["flagged"] == found[0]["flagged"]


def test_the_study_draws_and_trains_as_its_kept_lines_were_made(tmp_path):
    """Whatever the shipped profile and recipe are by now: a trial's key says nothing of them."""
    assert World(tmp_path).engines.generator.sampling == Sampling(
        num_inference_steps=20, guidance_scale=3.0, width=32, height=32, batch_size=32
    )
    assert dataclasses.replace(RECIPE, steps=1) == ExpertRecipe(
        method="dpo", rank=8, steps=1, batch_size=8, accumulation=1, beta=5.0, focusing=0.0,
        cost_margin=0.0, clean_pairs=0.0,
        safeguard=None, preservation=3.0, preservation_at="same", preserve_others=0.0,
        min_snr=None, layers="attention", optimizer="adamw", lr=3e-3, warmup_steps=10,
        lr_floor=0.1, weight_decay=1e-2, clip=1.0, caption_dropout=0.0, flip=False,
    )  # fmt: skip


def test_trials_of_the_flow_model_train_and_draw_with_it(tmp_path):
    """The same concepts on another base model: no line or adapter of the UNet is taken for one."""
    flow = [one for one in TRIALS if one.model == "flow"]
    assert {one.experiment for one in flow} == {"flow", "flow, conflicts"}
    assert {part.model for one in flow for part in parts_of(one.adapter)} == {"flow"}
    for one in flow:
        world = world_of(tmp_path, one.measured[0], one.model)
        assert world.engines.profile.base_model.model.endswith("checkpoints/flow")
        assert world.folder != world_of(tmp_path, one.measured[0]).folder
        assert one.key != dataclasses.replace(one, model="unet").key
    assert FlowWorld.sampling.num_inference_steps == 8  # not in a key either


def test_lines_that_were_kept_are_read_by_this_study():
    """The repository's own lines: every one is a JSON object whose key this study has."""
    keys = {one.key for one in all_trials(CONCEPTS, 5, results.read())}
    kept = results.RESULTS.read_text().splitlines()
    assert kept
    assert {json.loads(text)["key"] for text in kept} <= keys
