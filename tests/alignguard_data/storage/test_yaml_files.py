"""The one YAML reader: what a scalar means, what a document may not hold, and where a fault is."""

import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_data.storage.yaml_files import read_yaml, yaml_bytes


def read(tmp_path, text: str | bytes):
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-5", 1e-5),
        ("1e5", 100_000.0),
        ("1.5", 1.5),
        (".inf", float("inf")),
        ("12", 12),
        ("1_000", 1000),
        ("0x1f", 31),
        ("0o14", 12),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("Off", "Off"),
        ("'1e-5'", "1e-5"),
        ("!!str 12", "12"),
        ("=", "="),
        ("a\u2028b", "a\u2028b"),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(tmp_path, written, meant):
    found = read(tmp_path, f"a: {written}\n").content["a"]
    assert found == meant
    assert type(found) is type(meant), "plain, so that its repr is what was meant"


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "No", "ON"])
def test_words_that_yaml_1_1_took_for_booleans_are_pointed_out_unless_quoted(tmp_path, word):
    found = read(tmp_path, f"a: [{word}, '{word}', \"{word}\"]\n")
    assert found.old_booleans == (("a", 0),)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3\n", "a (line 3): is given twice in one mapping, first on line 1"),
        ("a:\n  - {b: 1}\n  - {b: 1, c: 2,\n     b: 3}\n", "a.1.b (line 4): is given twice"),
        ("a: &x {b: 1, b: 2}\n", "a.b (line 1): is given twice"),
        ("a:\n  ? b\n  : 1\n  b: 2\n", "a.b (line 4): is given twice"),
        ("a: 1\n'a': 2\n", "a (line 2): is given twice"),
        ("a: 1\n2: x\n", "2 (line 2): the key must be text, got 2"),
        ("a: 1\nnull: x\n", "None (line 2): the key must be text"),
        ("a: !odd x\n", "a (line 1): has a tag or type that has no meaning here"),
        ("a:\n  b: !odd {c: 1}\n", "a.b (line 2): has a tag"),
        ("a: !!set {b}\n", "a (line 1): has a tag"),
        ("a: 1\nb: 12e4567\n", "b (line 2): is a number that is too large; quote it"),
        ("&x\na: 1\nb: *x\n", "b (line 3): contains itself"),
    ],
)
def test_a_fault_of_the_document_names_its_place_and_line(tmp_path, text, fault):
    (found,) = read(tmp_path, text).faults
    assert found.startswith(fault)


def test_all_faults_of_a_document_come_at_once(tmp_path):
    found = read(tmp_path, "a: 1\na: 2\nb: {c: 1, c: 2}\nd: !odd x\n").faults
    assert [fault.split(" ")[0] for fault in found] == ["a", "b.c", "d"]


DEEP = {
    "flow": "a: " + "[" * 3000,
    "closed": "a: " + "[" * 3000 + "]" * 3000,
    "block": "\n".join(" " * i + "k:" for i in range(3000)),
    "dashes": "a: \n" + "- " * 3000 + "x",
    "keys": "a: " + "{k: " * 3000,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_a_very_deep_document_is_one_clear_fault(tmp_path, text):
    with pytest.raises(ConfigError, match=r"line \d+: not YAML: maximum depth"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"a: 1\nb: caf\xe9\n", "line 2: is not UTF-8 (byte 0xe9)"),
        ("a: 1\n".encode("utf-16"), "line 1: is not UTF-8 (byte 0xff)"),
        ("a: 1\nb: [\n", "line 3: not YAML"),
        ("a: 1\nb: c: d\n", "line 2: not YAML"),
        ("a: \x01\n", "not YAML"),
        ("a: *x\n", "line 1: not YAML"),
        ("a: 1\nb: &x [*x]\n", "line 2: not YAML: an alias refers to its own container"),
        ("a: 1\n---\nb: 2\n", "line 2: not YAML"),
        ("a: 2024-13-01\n", "line 1: not YAML"),
        (f"a: 1\nb: {'1' * 5000}\n", "line 2: not YAML"),
        ("a: !!int x\n", "line 1: not YAML"),
        ("a: !!bool maybe\n", "line 1: not YAML"),
        ("", "must be a mapping"),
        ("[1, 2]\n", "must be a mapping"),
        ("!odd {a: 1}\n", "must be a mapping"),
    ],
)
def test_what_cannot_be_read_is_one_clear_fault_with_its_line(tmp_path, text, fault):
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    (found,) = raised.value.faults
    assert found.startswith(fault)


def test_a_folder_or_an_absent_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_lines_are_those_of_the_keys_and_list_items(tmp_path):
    found = read(tmp_path, "a: 1\nb:\n  - x\n\n  - c:\n      d: [2,\n         3]\n").lines
    assert {place: line for place, line in found.items() if place} == {
        ("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 5, ("b", 1, "c"): 5, ("b", 1, "c", "d"): 6,
        ("b", 1, "c", "d", 0): 6, ("b", 1, "c", "d", 1): 7,
    }  # fmt: skip


def test_anchors_aliases_and_merge_keys_are_taken_as_written(tmp_path):
    found = read(tmp_path, "\ufeffa: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x\n")
    assert found.content == {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}, "e": {"b": 1, "c": 2}}
    assert found.faults == ()


def test_aliases_of_aliases_do_not_multiply(tmp_path):
    rows = [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)]
    found = read(tmp_path, "a0: &a0 [x]\n" + "".join(rows)).content
    assert found["a59"][0] is found["a59"][1], "2^59 elements if they were copies"


def test_what_is_written_is_read_back_unchanged(tmp_path):
    content = {
        "z": [1, 1.5, 1e-7, True, None, "", "12", "1e5", "12e4567", "yes", "0o12", "1:30", "~"],
        "a": {"text": "two\nlines", "odd": "é\u2028\U0001f600", "date": "2024-01-01"},
    }
    found = read(tmp_path, yaml_bytes(content))
    assert found.content == content
    assert list(found.content) == ["z", "a"]
