"""What goes into a release and what its manifest says of it, over rooms of a few rows by hand."""

import dataclasses

import pyarrow as pa
import pytest

from alignguard_data.audit.funnel import FunnelRow
from alignguard_data.contracts.errors import InputMissing
from alignguard_data.contracts.records import Concept, PromptPair, to_table
from alignguard_data.dedup.decide import DroppedRow
from alignguard_data.dedup.edges import Edge
from alignguard_data.prompts.room import CONCEPT_CHECK
from alignguard_data.release.card import render_card
from alignguard_data.release.plan import describe_release, leaks_file, plan_release
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.partition import PartitionSpec, open_partition
from alignguard_data.storage.paths import DataRoot
from alignguard_data.storage.shards import ShardFile
from tests.alignguard_data.tiny_rooms import concept, taxonomy

TAXONOMY = taxonomy(
    concept("spots.dot"), concept("lines.tick", "test"), concept("lines.bar"), version="3"
)
KEPT = {"lines.bar": ["b3", "b1", "b2"], "lines.tick": ["t1", "t2"], "spots.dot": ["d1", "d2"]}
RESERVED = {"lines.bar": ["e2", "e1"], "lines.tick": [], "spots.dot": ["e3"]}
SAMPLING = {"num_inference_steps": 4, "guidance_scale": 2.0, "width": 16, "height": 8}
FLAG = {"scorer": "ink", "key": "share", "at_least": 0.5}


def prompt_pair(one: Concept, name: str, role: str) -> PromptPair:
    return PromptPair(
        pair_id=name,
        concept=one.key,
        category=one.category,
        role=role,  # pyright: ignore[reportArgumentType]
        unsafe_prompt=f"a {one.slug} {name}",
        safe_prompt=f"a field {name}",
        request_index=0,
        writer="w",
    )


@dataclasses.dataclass
class Rooms:
    """Rooms of one concept after another; what is given replaces the usual."""

    data: DataRoot

    def write(self, one: Concept, **other: dict) -> None:
        kept, reserved = KEPT[one.key], RESERVED[one.key]
        pairs = [prompt_pair(one, name, "train") for name in kept]
        pairs += [prompt_pair(one, name, "evaluation") for name in reserved]
        counts = {"train": len(kept) + 1, "evaluation": len(reserved)}
        scores = [("ink", "share", "safe"), ("ink", "share", "unsafe")]
        scores += [(f"twins-{one.slug}", "cosine", "")]
        columns = list(zip(*scores, strict=True))
        usual = {
            "prompts": {
                "models": {"writer": "r1", CONCEPT_CHECK: "check at c1"},
                "tables": {"pairs": to_table(PromptPair, pairs)},
                "counts": counts,
                "rejected": {"unparseable": 1},
            },
            "images": {
                "models": {"painter": "r2"},
                "config": SAMPLING,
                "tables": {"images": pa.table({"a": [0] * 2 * len(kept)})},
                "rejected": {"blank": 2},
            },
            "scores": {
                "models": {"ink": "1", f"twins-{one.slug}": "2"},
                "tables": {
                    "scores": pa.table(
                        dict(zip(("scorer", "key", "side"), map(list, columns), strict=True))
                    )
                },
                "counts": {"images": 2 * len(kept)},
            },
            "pairs": {
                "config": {"flags": [FLAG]},
                "tables": {"kept": pa.table({"pair_id": kept})},
                "rejected": {"image_missing": 1},
            },
        }
        for room, made in usual.items():
            made = made | other.get(room, {})
            spec = PartitionSpec(
                folder=self.data.partition(room, one.key),
                room=room,
                key=one.key,
                config=made.get("config", {}),
                inputs={},
                models=made.get("models", {}),
            )
            with open_partition(spec) as work:
                work.finish(
                    tables=made["tables"],
                    counts=made.get("counts", {}),
                    rejected=made.get("rejected", {}),
                )


@pytest.fixture
def rooms(tmp_path) -> Rooms:
    made = Rooms(DataRoot(root=tmp_path, profile="tiny"))
    for one in TAXONOMY.concepts:
        made.write(one)
    return made


EDGES = [
    Edge("b1", "t1", "semantic", 0.9),  # train row gives way to a test row
    Edge("b2", "b3", "prompt", 0.8),  # the smaller id stays
    Edge("d1", "e1", "exact", 1.0),  # ... to an evaluation prompt of another concept
    Edge("t1", "t2", "image", 2.0),
]


def plan_of(rooms: Rooms, edges=(), withdrawn=frozenset()):
    return plan_release(rooms.data, TAXONOMY, edges, withdrawn)


def test_rows_are_in_order_of_category_concept_and_id(rooms):
    plan = plan_of(rooms)
    assert [one.key for one in plan.concepts] == ["lines.bar", "lines.tick", "spots.dot"]
    assert plan.pair_ids == {key: sorted(kept) for key, kept in KEPT.items()}
    assert list(plan.pair_ids) == ["lines.bar", "lines.tick", "spots.dot"]
    ids = {key: [pair.pair_id for pair in pairs] for key, pairs in plan.evaluation.items()}
    assert ids == {"lines.bar": ["e1", "e2"], "lines.tick": [], "spots.dot": ["e3"]}
    assert (plan.lost, plan.edges, plan.decision.reasons) == ({}, [], {})


def test_a_dropped_row_is_not_released_and_has_a_reason(rooms):
    plan = plan_of(rooms, EDGES)
    assert plan.pair_ids == {"lines.bar": ["b2"], "lines.tick": ["t1"], "spots.dot": ["d2"]}
    assert plan.lost == {
        "b1": "leaks_into_test",
        "b3": "near_duplicate_prompt",
        "d1": "leaks_into_test",
        "t2": "near_duplicate_image",
    }
    assert plan.edges == EDGES
    (meaning, exact) = plan.decision.leaks
    assert meaning == DroppedRow(
        pair_id="b1", reason="leaks_into_test", kind="semantic", of="t1", value=0.9
    )
    assert (exact.pair_id, exact.kind, exact.of) == ("d1", "exact", "e1")


def test_no_pair_is_dropped_for_a_withdrawn_one(rooms):
    """t1 and b2 are gone, so b1, b3 and t2 stay; e1 is gone, so d1 stays; e3 is no kept pair."""
    plan = plan_of(rooms, EDGES, {"t1", "b2", "e1", "e3", "unknown"})
    assert plan.pair_ids == {
        "lines.bar": ["b1", "b3"],
        "lines.tick": ["t2"],
        "spots.dot": ["d1", "d2"],
    }
    ids = {key: [pair.pair_id for pair in pairs] for key, pairs in plan.evaluation.items()}
    assert ids == {"lines.bar": ["e2"], "lines.tick": [], "spots.dot": []}
    assert plan.lost == {"t1": "withdrawn", "b2": "withdrawn"}


def test_a_withdrawn_duplicate_is_counted_as_withdrawn(rooms):
    assert plan_of(rooms, EDGES, {"b1"}).lost["b1"] == "withdrawn"


def test_every_kept_and_evaluation_pair_knows_its_concept(rooms):
    wanted = {pair: key for key, kept in KEPT.items() for pair in kept}
    wanted |= {pair: key for key, kept in RESERVED.items() for pair in kept}
    assert plan_of(rooms, EDGES).concept_of == wanted


def test_the_funnel_of_a_plan_ends_with_what_the_release_lost(rooms):
    rows = [row for row in plan_of(rooms, EDGES, {"d2"}).funnel if row.stage == "release"]
    found = {(row.concept, row.reason): row.rows for row in rows}
    assert found == {
        ("spots.dot", "kept"): 0,
        ("spots.dot", "leaks_into_test"): 1,
        ("spots.dot", "withdrawn"): 1,
        ("lines.tick", "kept"): 1,
        ("lines.tick", "near_duplicate_image"): 1,
        ("lines.bar", "kept"): 1,
        ("lines.bar", "leaks_into_test"): 1,
        ("lines.bar", "near_duplicate_prompt"): 1,
    }
    assert rows[0] == FunnelRow(
        concept="spots.dot", category="spots", split="train", stage="release", reason="kept", rows=0
    )
    stages = {row.stage for row in plan_of(rooms).funnel if row.concept == "lines.bar"}
    assert stages == {"prompts", "roles", "images", "scores", "pairs", "release"}


SCORE_COLUMNS = [
    "score_ink_share_0",
    "score_ink_share_1",
    "score_twins_bar_cosine",
    "score_twins_dot_cosine",
    "score_twins_tick_cosine",
]


def test_the_manifest_describes_rows_and_what_made_them(rooms):
    files = [ShardFile(name="data/a.parquet", bytes=5, sha256="f" * 64, rows=3)]
    plan = plan_of(rooms, EDGES, {"d2"})
    found = describe_release(rooms.data, TAXONOMY, plan, files)
    base = {"model": "painter", "revision": "r2", "steps": 4, "guidance": 2.0, "size": "16x8"}
    assert found == {
        "profile": "tiny",
        "tier": "full",
        "content_id": manifests.content_id(tuple(files)),
        "files": [dataclasses.asdict(files[0])],
        "taxonomy": {"name": "tiny", "version": "3", "concepts": 3},
        "base_models": [base],
        "writers": ["writer at r1"],
        "concept_checks": ["check at c1"],
        "rows": {"train": 1, "test": 1, "evaluation": 3},
        "by_category": {
            "spots": {"train": 0, "test": 0, "evaluation": 1},
            "lines": {"train": 1, "test": 1, "evaluation": 2},
        },
        "by_concept": {"lines.bar": 1, "lines.tick": 1, "spots.dot": 0},
        "funnel": [
            ["prompts", "kept", 10],
            ["prompts", "unparseable", 3],
            ["roles", "kept", 10],
            ["roles", "evaluation", 3],
            ["images", "kept", 14],
            ["images", "blank", 6],
            ["scores", "kept", 14],
            ["pairs", "kept", 7],
            ["pairs", "image_missing", 3],
            ["release", "kept", 2],
            ["release", "leaks_into_test", 2],
            ["release", "near_duplicate_image", 1],
            ["release", "near_duplicate_prompt", 1],
            ["release", "withdrawn", 1],
        ],
        "leaks": {"exact": 1, "semantic": 1},
        "duplicates": {"near_duplicate_image": 1, "near_duplicate_prompt": 1},
        "score_columns": SCORE_COLUMNS,
        "scorers": ["ink at 1", "twins-bar at 2", "twins-dot at 2", "twins-tick at 2"],
        "flags": [FLAG],
    }
    assert list(found["leaks"]) == ["exact", "semantic"]


def described(rooms: Rooms) -> dict:
    return describe_release(rooms.data, TAXONOMY, plan_of(rooms), [])


def test_concepts_that_were_made_apart_are_all_named(rooms):
    """Another writer, image model, sampling and threshold for one concept."""
    slow = {**SAMPLING, "num_inference_steps": 50, "solver": "ddim"}
    strict = {**FLAG, "at_least": 0.25}
    rooms.write(
        TAXONOMY.concepts[0],
        prompts={"models": {"author": "r9"}},
        images={"models": {"artist": "r8"}, "config": slow},
        pairs={"config": {"flags": [FLAG, strict]}},
    )
    found = described(rooms)
    assert found["writers"] == ["author at r9", "writer at r1"]
    assert found["concept_checks"] == ["check at c1"]
    assert found["base_models"] == [
        {
            "model": "artist",
            "revision": "r8",
            "steps": 50,
            "guidance": 2.0,
            "size": "16x8",
            "solver": "ddim",
        },
        {"model": "painter", "revision": "r2", "steps": 4, "guidance": 2.0, "size": "16x8"},
    ]
    assert found["flags"] == [strict, FLAG]


def test_a_way_of_drawing_that_is_not_known_is_named_beside_the_known(rooms):
    """None and 4 steps of one model have an order."""
    rooms.write(TAXONOMY.concepts[0], images={"config": {}})
    assert [base["steps"] for base in described(rooms)["base_models"]] == [4, None]


def card_of(found: dict) -> str:
    named = {"name": "tiny", "version": "1", "parent": None, "licence": "", "created": ""}
    return render_card({**named, **found}, None, plots=["plots/scores.png"])


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (("width", "height"), ", 4 steps, guidance 2.0"),
        (("height",), ", 4 steps, guidance 2.0"),
        (("width",), ", 4 steps, guidance 2.0"),
        (("guidance_scale",), ", 4 steps, 16x8"),
        (("num_inference_steps",), ", guidance 2.0, 16x8"),
        (("num_inference_steps", "guidance_scale", "width", "height"), ""),
    ],
)
def test_the_card_says_what_is_known_of_a_drawing_and_no_none(rooms, lost, said):
    known = {name: value for name, value in SAMPLING.items() if name not in lost}
    for one in TAXONOMY.concepts:
        rooms.write(one, images={"config": known})
    found = described(rooms)
    (base,) = found["base_models"]
    assert base["size"] == (None if {"width", "height"} & set(lost) else "16x8")
    assert f"- Base model: painter at r2{said}.\n" in card_of(found)
    assert "None" not in card_of(found)


def test_a_threshold_calibrated_with_two_versions_is_named_with_both(rooms):
    """Concepts that were filtered before and after a scorer changed, by the same number."""
    old, new = ({**FLAG, "version": version} for version in ("1", "2"))
    for one, rule in zip(TAXONOMY.concepts, (new, old, FLAG), strict=True):
        rooms.write(one, pairs={"config": {"flags": [rule]}})
    found = described(rooms)
    assert found["flags"] == [FLAG, old, new]
    assert (
        "`ink/share` at least 0.5; `ink/share` at least 0.5 (calibrated with 1); "
        "`ink/share` at least 0.5 (calibrated with 2)."
    ) in card_of(found)


def test_without_a_concept_check_none_is_named(rooms):
    for one in TAXONOMY.concepts:
        rooms.write(one, prompts={"models": {"writer": "r1"}})
    found = described(rooms)
    assert (found["writers"], found["concept_checks"]) == (["writer at r1"], [])


@pytest.mark.parametrize("room", ["prompts", "images", "scores", "pairs"])
def test_a_room_that_is_not_there_is_named(rooms, room):
    plan = plan_of(rooms)
    (rooms.data.partition(room, "lines.tick") / manifests.MANIFEST).unlink()
    with pytest.raises(InputMissing, match=rf"{room}.lines\.tick has no manifest"):
        plan_of(rooms)
    with pytest.raises(InputMissing, match=rf"{room}.lines\.tick has no manifest"):
        describe_release(rooms.data, TAXONOMY, plan, [])


LIMITS = {"max_prompt_jaccard": 0.5, "max_phash_distance": None, "max_semantic_cosine": 0.9}


def test_the_leak_report_counts_what_remains_among_released_rows(rooms):
    """Rows that gave way leave no leak behind, unless the plan may release them."""
    plan = plan_of(rooms, EDGES)
    manifest = {"limits": LIMITS, "embedder": "angle 1"}
    found = leaks_file(plan, manifest)
    assert (found["limits"], found["embedder"]) == (LIMITS, "angle 1")
    counts = {kind: (of["dropped"], of["remaining"]) for kind, of in found["leaks"].items()}
    assert counts == {"exact": (1, 0), "near": (0, 0), "semantic": (1, 0), "image": (0, None)}
    (row,) = found["leaks"]["semantic"]["rows"]
    assert (row["concept"], row["of_concept"]) == ("lines.bar", "lines.tick")

    whole = {key: sorted(kept) for key, kept in KEPT.items()}
    leaky = dataclasses.replace(plan, pair_ids=whole)
    counts = {kind: of["remaining"] for kind, of in leaks_file(leaky, manifest)["leaks"].items()}
    assert counts == {"exact": 1, "near": 0, "semantic": 1, "image": None}
