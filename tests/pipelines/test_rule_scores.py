"""A rule over a score that no scorer gives is found before anything is made, by field and value."""

import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from pipelines.cli.console import Output
from pipelines.cli.doctor import _scores
from pipelines.cli.plan import plan_command
from pipelines.cli.run import run_command
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from tests.conftest import reduced_profile

Q16, NUDE = {"scorer": "q16", "key": "inappropriate"}, {"scorer": "nudenet", "key": "authors"}


def at(score: dict, **changes: str) -> dict:
    return {**score, "at_least": 0.5, **changes}


READ = {
    "filter.flags.0.scorer: image_scorers has no 'q17'; there are nudenet, q16, clip": {
        "filter": {"flags": [at(Q16, scorer="q17")]}
    },
    "filter.flags.1.key: nudenet gives no 'any'; there are authors, exposed9, duo": {
        "filter": {"flags": [at(Q16), at(NUDE, key="any")]}
    },
    "filter.flags.0.scorer: image_scorers has no 'twins'": {
        "filter": {"flags": [at(Q16, scorer="twins", key="cosine")]}
    },
    "edited_pairs.flags.0.scorer: image_scorers has no 'ghost'; there are nudenet, q16, clip": {
        "edited_pairs": {"flags": [at(Q16, scorer="ghost")]}
    },
    "filter.min_twin_cosine.scorer: pair_scorers has no 'twins'; there are none": {
        "pair_scorers": []
    },
    "evaluation.flags.0.scorer: evaluation_scorers has no 'Q16'": {
        "evaluation": {"flags": [at(Q16, scorer="Q16")]}
    },
    "evaluation.flags.0.key: q16 gives no ''; there are inappropriate": {
        "evaluation": {"flags": [at(Q16, key="")]}
    },
    "evaluation.residue.key: q16 gives no 'rest'": {"evaluation": {"residue": at(Q16, key="rest")}},
    "evaluation.fidelity.scorer: evaluation_scorers has no 'scene'": {
        "evaluation": {"fidelity": {"scorer": "scene", "key": "all_right"}}
    },
    "evaluation.clip_score.key: clip gives no 'cosine'; there are score": {
        "evaluation": {"clip_score": {"scorer": "clip", "key": "cosine"}}
    },
    "robustness.coherent.scorer: evaluation_scorers and robustness_scorers has no 'ghost'": {
        "robustness": {"coherent": at(Q16, scorer="ghost")}
    },
    "evaluation.clip_score.scorer: evaluation_scorers has no 'clip'; there are nudenet": {
        "evaluation_scorers": [{"use": "alignguard_data.scores:NudeNetScorer"}],
        "evaluation": {"flags": [at(NUDE)]},
    },
}


@pytest.mark.parametrize("fault", READ)
def test_reading_the_profile_finds_it(tmp_path, fault):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "sd15", "name": "mine", **READ[fault]}))
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path))
    assert any(one.startswith(fault) for one in caught.value.faults), caught.value.faults
    assert str(path) in str(caught.value)


def test_every_such_rule_is_named_at_once(tmp_path):
    path = tmp_path / "mine.yaml"
    wrong = [at(Q16, scorer="x"), at(Q16), at(NUDE, key="y")]
    sections = {"filter": {"flags": wrong}, "evaluation": {"flags": wrong}}
    path.write_text(yaml.safe_dump({"extends": "sd15", "name": "mine", **sections}))
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path))
    assert [one.partition(":")[0] for one in caught.value.faults] == [
        "filter.flags.0.scorer", "filter.flags.2.key",
        "evaluation.flags.0.scorer", "evaluation.flags.2.key",
    ]  # fmt: skip


GLYPHS = {"scorer": "glyphs", "key": "any", "at_least": 0.5}
BUILT = {
    "filter.flags.0.scorer: image_scorers has no 'ghost'; there are glyphs, scene, nudenet": {
        "filter__flags": [{**GLYPHS, "scorer": "ghost"}]
    },
    "filter.flags.0.key: glyphs gives no 'comet'": {"filter__flags": [{**GLYPHS, "key": "comet"}]},
    "robustness.coherent.key: coherence gives no 'sure'; there are": {
        "robustness__coherent": {"scorer": "coherence", "key": "sure", "at_least": 0.5}
    },
    "evaluation.fidelity.key: scene gives no 'right'": {
        "evaluation__fidelity": {"scorer": "scene", "key": "right"}
    },
}


@pytest.fixture(params=BUILT)
def wrong(request, tmp_path, monkeypatch) -> str:
    """A fault that only a built scorer shows: the stand-in's are made by functions."""
    path = reduced_profile(tmp_path, **BUILT[request.param])
    monkeypatch.setenv("ALIGNGUARD_PROFILE", str(path))
    monkeypatch.setenv("ALIGNGUARD_ROOT", str(tmp_path / "data"))
    return request.param


def test_plan_finds_what_only_a_built_scorer_shows(wrong):
    with pytest.raises(ConfigError) as caught:
        plan_command(Output(), gpu=None, peak_share=0.3, as_json=True)
    assert caught.value.faults[0].startswith(wrong)


def test_run_finds_it_before_anything_is_made(wrong, tmp_path):
    with pytest.raises(ConfigError) as caught:
        run_command(Output())
    assert caught.value.faults[0].startswith(wrong)
    assert not (tmp_path / "data").exists()


def test_doctor_finds_it(wrong):
    check = _scores(Engines(load_profile(), data_root()))
    assert check.state == "missing"
    assert wrong in check.found


def test_doctor_is_content_with_the_shipped_stand_in():
    assert _scores(Engines(load_profile("standin"), data_root())).state == "ok"


@pytest.mark.parametrize(
    ("base", "fault"),
    [
        ({"revision": None}, "stable-diffusion-v1-5 is not a local folder.* revision is None"),
        ({"vae": "some/vae"}, "some/vae is not a local folder.* vae_revision is None"),
    ],
)
def test_a_hub_id_without_a_revision_is_found_when_the_profile_is_read(tmp_path, base, fault):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "sd15", "name": "mine", "base_model": base}))
    with pytest.raises(ConfigError, match=f"base_model: .*{fault}"):
        load_profile(str(path))
