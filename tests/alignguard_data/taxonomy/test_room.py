"""The taxonomy file: every fault at once with place, line and value."""

from pathlib import Path

import pytest
import yaml

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.contracts.records import Concept, from_table
from alignguard_data.safety.rules import concept_refusal
from alignguard_data.standin.factory import taxonomy_file
from alignguard_data.storage import manifest as manifests
from alignguard_data.taxonomy.parse import CATEGORY_SETS, load_taxonomy
from alignguard_data.taxonomy.room import spec, write_taxonomy

I2P = Path(taxonomy_file()).parents[1] / "taxonomy" / "data" / "i2p.yaml"

GOOD = """\
name: shapes
version: "1"
categories:
  - key: lines
    name: Lines
    concepts:
      - {slug: bar, name: bar, split: train, terms: [bar, thick line]}
      - {slug: tick, name: tick, split: test, terms: [tick]}
"""


def faults_of(tmp_path, text: str) -> tuple[str, ...]:
    path = tmp_path / "taxonomy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_taxonomy(path)
    return raised.value.faults


def test_concepts_keep_the_order_of_the_file(tmp_path):
    path = tmp_path / "taxonomy.yaml"
    path.write_text(GOOD)
    taxonomy = load_taxonomy(path)
    assert [c.key for c in taxonomy.concepts] == ["lines.bar", "lines.tick"]
    assert taxonomy.concept("lines.bar").terms == ("bar", "thick line")
    assert taxonomy.of_category("lines") == taxonomy.concepts
    with pytest.raises(KeyError, match=r"lines\.none"):
        taxonomy.concept("lines.none")


def test_every_fault_is_reported_at_once_with_place_line_and_value(tmp_path):
    faults = faults_of(
        tmp_path,
        """\
name: ""
version: 1
extra: yes
categories:
  - key: Lines
    name: Lines
    concepts:
      - {slug: bar, name: bar, split: validation, terms: []}
      - {slug: bar, name: "a child", split: train, terms: [Placeholder Person]}
  - key: all
    name: Everything
""",
    )
    expected = (
        "name (line 1): String should have at least 1 character",
        "version (line 2): Input should be a valid string (got 1)",
        "extra (line 3): Extra inputs are not permitted",
        "categories.0.key (line 5): String should match pattern",
        "categories.0.concepts.0.split (line 8): Input should be 'train' or 'test' (got 'valid",
        "categories.0.concepts.0.terms (line 8): List should have at least 1 item",
        "categories.0.concepts.1.slug (line 9): is used twice in category Lines (got 'bar')",
        "categories.0.concepts.1.name (line 9): Value error, is refused by a safety rule (minors)",
        "categories.0.concepts.1.terms.0 (line 9): Value error, is refused by a safety rule (real",
        "categories.1.key (line 10): Value error, is a reserved word (got 'all')",
        "categories.1.concepts (line 10): Field required (got nothing)",
    )
    for start in expected:
        assert any(fault.startswith(start) for fault in faults), (start, faults)
    assert len(faults) == len(expected)


def test_a_key_given_twice_is_a_fault(tmp_path):
    faults = faults_of(tmp_path, GOOD + "name: again\n")
    assert faults == ("name (line 9): is given twice in one mapping, first on line 1",)


def test_a_term_of_both_splits_is_a_fault(tmp_path):
    faults = faults_of(tmp_path, GOOD.replace("terms: [tick]", "terms: [Bar]"))
    assert faults == (
        "categories.0.concepts.1.terms.0 (line 8): is also a term of a concept of the other split, "
        "at categories.0.concepts.0.terms.0 (got 'Bar')",
    )


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("café", "cafe\u0301"),
        ("t-shirt", "t\u2011shirt"),
        ("t-shirt", "T Shirts"),
        ("knife", "knives"),
        ("devil's tail", "devil’s tail"),
        ("knife", "kni\u200bfe"),
        ("knife", "ｋｎｉｆｅ"),
        ("gate 12", "gate ١٢"),
    ],
)
def test_two_spellings_of_one_term_are_one(tmp_path, train, test):
    text = GOOD.replace("thick line", train).replace("terms: [tick]", f'terms: ["{test}"]')
    (fault,) = faults_of(tmp_path, text)
    assert (
        "also a term of a concept of the other split, at categories.0.concepts.0.terms.1" in fault
    )
    both = GOOD.replace("[bar, thick line]", f'["{train}", "{test}"]')
    (fault,) = faults_of(tmp_path, both)
    assert "also a term of the same concept" in fault


def test_a_name_is_no_term_of_the_other_split(tmp_path):
    text = GOOD.replace("name: tick", "name: Thick Lines")
    (fault,) = faults_of(tmp_path, text)
    assert fault.startswith(
        "categories.0.concepts.1.name (line 8): is also a term of a concept of the"
    )


def test_a_term_without_a_letter_is_a_fault(tmp_path):
    text = GOOD.replace("thick line", '"\u200b-"')
    (fault,) = faults_of(tmp_path, text)
    assert "has no letter or digit" in fault


def test_two_categories_of_one_key_are_a_fault(tmp_path):
    second = GOOD[GOOD.index("  - key") :].replace("bar", "dot").replace("tick", "ring")
    assert any("is the key of two categories" in f for f in faults_of(tmp_path, GOOD + second))


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\t- x: {", ""])
def test_what_is_not_a_mapping_is_one_clear_fault(tmp_path, text):
    assert len(faults_of(tmp_path, text)) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml.*\n.*No such file"):
        load_taxonomy(tmp_path / "none.yaml")


def test_the_shipped_taxonomy_has_a_held_out_concept_in_every_category():
    taxonomy = load_taxonomy(taxonomy_file())
    for category in taxonomy.categories:
        splits = [concept.split for concept in taxonomy.of_category(category.key)]
        assert sorted(splits) == ["test", "train", "train"]


def test_the_taxonomy_of_the_real_profiles_has_seven_categories_and_300_concepts():
    taxonomy = load_taxonomy(I2P)
    assert tuple(c.key for c in taxonomy.categories) == CATEGORY_SETS["i2p"]
    assert len(taxonomy.concepts) >= 300
    for category in taxonomy.categories:
        splits = [concept.split for concept in taxonomy.of_category(category.key)]
        assert 0.15 <= splits.count("test") / len(splits) <= 0.25
        assert len(splits) >= 40


def test_its_names_are_short_and_pass_the_safety_rules():
    for concept in load_taxonomy(I2P).concepts:
        assert concept_refusal(concept.name, concept.terms) is None
        assert len(concept.name.split()) <= 6
        assert concept.terms[0] == concept.name


def test_every_category_of_it_names_its_source():
    for category in yaml.safe_load(I2P.read_text())["categories"]:
        assert category["source"].startswith("I2P category")


def test_every_concept_of_it_names_a_source_that_says_the_wording_is_ours():
    """The phrases are of no one else: a source is what they were filed under."""
    document = yaml.safe_load(I2P.read_text())
    concepts = [c for category in document["categories"] for c in category["concepts"]]
    assert {c["source"] for c in concepts} == set(document["sources"])
    for source in document["sources"].values():
        assert source["title"].startswith("own wording")


def test_a_source_that_the_file_does_not_list_is_a_fault_with_its_line(tmp_path):
    listed = "sources: {here: {title: a list, url: 'https://example.org/list'}}\n" + GOOD
    text = listed.replace("terms: [tick]", "source: there")
    text = text.replace("line]}", "line], source: here}")
    assert faults_of(tmp_path, text) == (
        "categories.0.concepts.1.source (line 9): is not a key of `sources`, which has here "
        "(got 'there')",
    )


def test_where_sources_are_listed_every_concept_names_one(tmp_path):
    listed = "sources: {here: {title: a list, url: 'https://example.org/list'}}\n" + GOOD
    faults = faults_of(tmp_path, listed.replace("terms: [tick]", "source: here"))
    assert faults == (
        "categories.0.concepts.0 (line 8): has no source; this file has here (got nothing)",
    )


def test_a_source_needs_a_title_and_an_address(tmp_path):
    faults = faults_of(tmp_path, "sources: {here: {title: '', url: a book}}\n" + GOOD)
    assert [fault.split(":")[0] for fault in faults if fault.startswith("sources")] == [
        "sources.here.title (line 1)",
        "sources.here.url (line 1)",
    ]


def test_synonyms_join_the_terms_and_a_name_is_a_term_where_none_is_given(tmp_path):
    path = tmp_path / "taxonomy.yaml"
    path.write_text(GOOD.replace("terms: [tick]", "synonyms: [check mark]"))
    assert load_taxonomy(path).concept("lines.tick").terms == ("tick", "check mark")


def test_a_source_changes_no_concept(tmp_path):
    """The concept's record is what prompts are made of: they must not be written again for it."""
    path = tmp_path / "taxonomy.yaml"
    path.write_text(GOOD)
    plain = load_taxonomy(path).concepts
    listed = "sources: {here: {title: a list, url: 'https://example.org/list'}}\n" + GOOD
    path.write_text(listed.replace("]}", "], source: here}"))
    assert load_taxonomy(path).concepts == plain


def test_a_category_outside_the_documents_set_is_a_fault(tmp_path):
    faults = faults_of(tmp_path, GOOD.replace('version: "1"', 'version: "1"\ncategory_set: i2p'))
    assert len(faults) == 1
    assert faults[0].startswith("categories.0.key (line 5): is not in this set: hate, harassment")
    assert faults[0].endswith("(got 'lines')")


def test_the_room_holds_the_concepts_and_is_made_once(rooms):
    first = write_taxonomy(rooms.data, rooms.taxonomy)
    table = manifests.read(rooms.data.partition("taxonomy"), "concepts")
    read = [c for c in from_table(Concept, table)]
    assert [c.key for c in read] == [c.key for c in rooms.taxonomy.concepts]
    assert write_taxonomy(rooms.data, rooms.taxonomy).run_id == first.run_id
    assert spec(rooms.data, rooms.taxonomy).state() == "done"
