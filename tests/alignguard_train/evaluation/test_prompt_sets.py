"""Prompt sets: every published layout, the file's seeds and sizes, and all faults at once."""

from pathlib import Path

import pandas as pd
import pytest

from alignguard_data.contracts.errors import ConfigError
from alignguard_train.evaluation.config import PromptSetConfig
from alignguard_train.evaluation.prompt_sets import PromptSet, category_key, read_prompt_sets

I2P = "prompt,categories,hard,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height\n"


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(path: str, **options) -> PromptSet:
    (found,) = read_prompt_sets([PromptSetConfig(name="set", path=path, **options)])
    return found


def faults(*paths: str, **options) -> str:
    with pytest.raises(ConfigError) as raised:
        read_prompt_sets(
            [PromptSetConfig(name=f"s{i}", path=path, **options) for i, path in enumerate(paths)]
        )
    return str(raised.value)


def test_i2p_brings_categories_seed_guidance_and_size_with_each_prompt(tmp_path):
    path = write(tmp_path, "i2p.csv", I2P + '"a box, a ball","hate, self-harm",0,123,7.5,512,768\n')
    (prompt,) = read(path, format="i2p").prompts
    assert prompt.prompt == "a box, a ball"
    assert prompt.categories == ("hate", "self-harm")
    assert (prompt.seed, prompt.guidance_scale) == (123, 7.5)
    assert (prompt.width, prompt.height) == (512, 768)


def test_a_wild_guidance_is_lowered_and_counted(tmp_path):
    rows = "".join(f"box {g},hate,0,1,{g},512,512\n" for g in (1, 7, 30, 31, 255))
    found = read(write(tmp_path, "i2p.csv", I2P + rows))
    assert sorted(p.guidance_scale or 0 for p in found.prompts) == [1, 7, 30, 30, 30]
    assert found.notes == {"guidance_clipped": 2}


def test_the_profiles_sampling_may_be_kept_but_seeds_are_the_files(tmp_path):
    path = write(tmp_path, "i2p.csv", I2P + "a box,hate,0,123,7.5,512,768\n")
    (prompt,) = read(path, own_sampling=False).prompts
    assert (prompt.seed, prompt.guidance_scale, prompt.width, prompt.height) == (
        123,
        None,
        None,
        None,
    )


def test_unsafe_diffusion_comes_as_text_and_as_csv(tmp_path):
    text = write(tmp_path, "a.txt", "a box\n\n a  ball\n")
    table = write(tmp_path, "b.csv", "prompt\na box\na ball\n")
    for path in (text, table):
        prompts = read(path, format="unsafe_diffusion").prompts
        assert {p.prompt for p in prompts} == {"a box", "a ball"}
        assert all(p.guidance_scale is None for p in prompts)


def test_the_authors_spellings_are_taken_for_the_categories_that_they_mean(tmp_path):
    text = "prompt,image,category\na box,1.png,Harrasment\na ball,2.png,Illegal Activity\n"
    prompts = read(write(tmp_path, "c.csv", text), format="coprov2").prompts
    assert {p.categories for p in prompts} == {("harassment",), ("illegal-activity",)}
    assert category_key("self-harm") == category_key("Self Harm") == "self-harm"


def test_parquet_with_lists_gaps_and_numbers_reads_like_csv(tmp_path):
    frame = pd.DataFrame(
        {"prompt": ["a box", "a ball"], "categories": [["x", "y"], []], "seed": [4.0, None]}
    )
    frame.to_parquet(tmp_path / "p.parquet")
    prompts = {p.prompt: p for p in read(str(tmp_path / "p.parquet")).prompts}
    assert prompts["a box"].categories == ("x", "y")
    assert prompts["a box"].seed == 4
    assert prompts["a ball"].seed > 2**32, "a seed of its own"


FIELD = [
    "prompt,evaluation_seed,evaluation_guidance",
    ",case_number,prompt,evaluation_seed,evaluation_guidance,categories",
    "prompt,sd_seed,sd_guidance_scale",
    "Prompt,Seed,Guidance_Scale",
    "adv_prompt,seed,guidance",
    "Caption,Evaluation Seed,Evaluation Guidance Scale",
]
"""Headers of the field's prompt files."""


@pytest.mark.parametrize("header", FIELD)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_seeds_and_guidance_of_the_fields_files_are_read_however_they_are_spelt(
    tmp_path, header, ending
):
    """10 prompts with 10 seeds each: without their seeds 90 of 100 rows would be duplicates."""
    columns = header.split(",")
    frame = pd.DataFrame(
        [[f"box {i % 10}", i, 3.5] for i in range(100)],
        columns=[name for name in columns if any(w in name.lower() for w in ("pro", "cap"))]
        + [name for name in columns if any(w in name.lower() for w in ("seed", "guid"))],
    ).reindex(columns=columns)
    path = tmp_path / f"set.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    found = read(str(path))
    assert len(found.prompts) == 100
    assert not found.rejected
    assert {p.seed for p in found.prompts} == set(range(100))
    assert {p.guidance_scale for p in found.prompts} == {3.5}


def test_columns_that_are_not_read_are_named_once(tmp_path):
    text = "prompt,lexica_url,Model,seed,sd_seed\na box,x,y,1,2\na ball,x,y,1,2\n"
    found = read(write(tmp_path, "a.csv", text))
    assert found.unread == ("lexica_url", "Model", "sd_seed")
    assert {p.seed for p in found.prompts} == {1}


def test_rows_without_text_are_counted(tmp_path):
    found = read(write(tmp_path, "a.csv", "prompt,seed\n\na box,1\n,\n"))
    assert found.notes == {"blank_rows": 2}
    assert not found.rejected


def test_a_published_layout_may_come_as_parquet(tmp_path):
    rows = {"prompt": ["a box"], "categories": ["hate"], "sd_seed": [7], "sd_guidance_scale": [7.5]}
    pd.DataFrame(rows).to_parquet(tmp_path / "i2p.parquet")
    (prompt,) = read(str(tmp_path / "i2p.parquet"), format="i2p").prompts
    assert (prompt.seed, prompt.guidance_scale, prompt.categories) == (7, 7.5, ("hate",))


def test_without_a_seed_column_the_prompt_decides_its_seed(tmp_path):
    one = {p.prompt: p.seed for p in read(write(tmp_path, "a.txt", "a box\na ball\n")).prompts}
    two = {p.prompt: p.seed for p in read(write(tmp_path, "b.txt", "a ball\na box\n")).prompts}
    assert one == two
    assert len(set(one.values())) == 2


def test_empty_refused_and_doubled_prompts_are_kept_apart_with_line_and_reason(tmp_path):
    text = 'prompt,seed\n"two\nlines",1\n,2\na box,3\na box,3\na box,4\nten years old,5\n'
    found = read(write(tmp_path, "a.csv", text))
    assert [(r.place, r.reason, r.detail) for r in found.rejected] == [
        ("a.csv, line 4", "empty_prompt", ""),
        ("a.csv, line 6", "duplicate_prompt", "of line 5"),
        ("a.csv, line 8", "minors", ""),
    ]
    assert sorted(p.prompt for p in found.prompts) == ["a box", "a box", "two lines"]


@pytest.mark.parametrize(
    "again",
    ["A BOX", "a\u00a0box", "\uff41 box", "a bo\u200bx", "\u0430 box", "a  box ", "a_box"],
)
def test_a_prompt_that_a_reader_takes_for_another_is_its_duplicate(tmp_path, again):
    found = read(write(tmp_path, "a.csv", f"prompt\na box\n{again}\na ball\n"))
    assert [(r.place, r.reason, r.detail) for r in found.rejected] == [
        ("a.csv, line 3", "duplicate_prompt", "of line 2")
    ]
    assert sorted(p.prompt for p in found.prompts) == ["a ball", "a box"]


def test_the_same_prompt_may_come_again_with_another_seed_guidance_or_size(tmp_path):
    rows = "a box,1,7,64,64\nA box,2,7,64,64\nA box,1,8,64,64\nA box,1,7,64,72\nA  BOX,1,7,64,64\n"
    found = read(write(tmp_path, "a.csv", "prompt,seed,guidance,width,height\n" + rows))
    assert len(found.prompts) == 4
    assert [r.detail for r in found.rejected] == ["of line 2"]


def test_all_faults_of_all_files_are_told_at_once(tmp_path):
    latin = write(tmp_path, "latin.txt", b"a box\nna\xefve\n")
    wrong = I2P + "a,hate,0,-1,x,500,512\nb,hate,0,1,7\nc,hate,0,1,inf,512,\n"
    text = faults(
        latin, write(tmp_path, "wrong.csv", wrong), write(tmp_path, "none.csv", "text\na\n"),
        write(tmp_path, "p.parquet", "not"), str(tmp_path / "absent.csv"),
        write(tmp_path, "a.json", "[]"), write(tmp_path, "nothing.csv", ""),
    )  # fmt: skip
    for wanted in (
        "latin.txt, line 2: is not UTF-8 (byte 0xef)",
        "wrong.csv, line 2: sd_seed must be a whole number from 0",
        "wrong.csv, line 2: sd_guidance_scale must be a number from 0 on, got 'x'",
        "line 2: sd_image_width must be a whole number from 8 to 4096, a multiple of 8, got '500'",
        "wrong.csv, line 3: has 5 cells, the header 7",
        "wrong.csv, line 4: sd_guidance_scale",
        "wrong.csv, line 4: width and height must be given together",
        "none.csv: has no column prompt (or adv_prompt, caption); its columns are: text",
        "p.parquet: is not Parquet",
        "absent.csv: cannot be read (No such file or directory)",
        "a.json: no format is given and the ending is not one of",
        "nothing.csv: is empty",
    ):
        assert wanted in text, text


def test_i2p_without_its_columns_is_said_to_lack_them(tmp_path):
    text = faults(write(tmp_path, "a.csv", "prompt\na box\n"), format="i2p")
    assert (
        "has no column categories (or category), seed (or evaluation_seed, sd_seed), guidance (or "
        in text
    )


def test_a_file_of_refused_prompts_alone_is_a_fault(tmp_path):
    assert "no prompt is left to render" in faults(write(tmp_path, "a.txt", "ten years old\n"))


def test_a_limit_keeps_the_same_prompts_wherever_they_stand(tmp_path):
    names = [f"box {i}" for i in range(9)]
    few = read(write(tmp_path, "a.txt", "\n".join(names)), limit=3).prompts
    other = read(write(tmp_path, "b.txt", "\n".join(reversed(names))), limit=3).prompts
    assert few == other
    assert len(few) == 3


@pytest.mark.parametrize("wrong", [{"name": "I 2"}, {"limit": 0}, {"max_guidance": 100.0}])
def test_a_wrong_config_names_its_field(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PromptSetConfig(**({"name": "a", "path": "a.csv"} | wrong))
