"""Records: content-derived ids, and schemas that follow the classes."""

import dataclasses
import hashlib

import pyarrow as pa
import pytest

from alignguard_data.contracts import records
from alignguard_data.contracts.records import (
    Concept,
    RenderedImage,
    Score,
    from_table,
    schema_of,
    to_table,
)


def test_pair_ids_are_128_bit_blake2b_of_length_prefixed_parts():
    digest = hashlib.blake2b(digest_size=16)
    for part in (b"c.d", b"unsafe", b"safe"):
        digest.update(len(part).to_bytes(8) + part)
    assert records.pair_id("c.d", "unsafe", "safe") == digest.hexdigest()
    assert len(digest.hexdigest()) == 32


def test_moving_a_letter_between_fields_changes_the_id():
    assert records.pair_id("c", "ab", "c") != records.pair_id("c", "a", "bc")


def test_seeds_are_63_bits_and_differ_by_base_model():
    seeds = [records.pair_seed(f"{i}", model) for i in range(200) for model in ("a", "b")]
    assert len(set(seeds)) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_evaluation_share_is_kept_and_growth_moves_no_pair():
    """Of 2,000 ids a share of 0.2 draws 400 on average with a deviation of 18."""
    ids = [f"pair-{i}" for i in range(2000)]
    small = {i for i in ids if records.pair_role(i, 0.2) == "evaluation"}
    large = {i for i in ids if records.pair_role(i, 0.3) == "evaluation"}
    assert 320 < len(small) < 480
    assert small < large
    assert not {i for i in ids if records.pair_role(i, 0.0) == "evaluation"}


def test_a_table_has_exactly_its_records_columns():
    schema = schema_of(RenderedImage)
    assert schema.names == [f.name for f in dataclasses.fields(RenderedImage)]
    assert schema.field("image").type == pa.binary()
    assert not any(field.nullable for field in schema)
    assert to_table(Score, []).schema == schema_of(Score)


def test_records_survive_a_table():
    concept = Concept(key="a.b", category="a", name="b", split="train", terms=("x", "y z"))
    (back,) = from_table(Concept, to_table(Concept, [concept]))
    assert dataclasses.replace(back, terms=tuple(back.terms)) == concept
    assert back.slug == "b"


def test_a_wrong_type_does_not_pass_into_a_shard():
    row = Concept(key="a.b", category="a", name=7, split="train", terms=())  # pyright: ignore
    with pytest.raises(pa.ArrowTypeError):
        to_table(Concept, [row])
