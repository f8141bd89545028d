"""States of a room's partitions in a bucket: few requests each, and many at the same time."""

import pytest
import yaml

from alignguard_data.contracts.records import schema_of
from alignguard_data.contracts.shard_records import SHARD_RECORDS
from alignguard_data.storage import places as storage
from alignguard_data.storage.partition import open_partition
from pipelines.profile import load_profile
from pipelines.resources import Engines
from pipelines.rooms import ROOMS
from pipelines.runtime.plan import plan_rooms
from pipelines.sensors.refresh import unfinished
from tests.bucket_server import BUCKET, serving
from tests.conftest import reduced_profile

LATENCY = 0.05
CONCEPTS = 16
PROMPTS = next(room for room in ROOMS if room.name == "prompts")


@pytest.fixture(scope="module")
def on_bucket(tmp_path_factory: pytest.TempPathFactory):
    """The proxy, and engines over a bucket with a finished, empty prompts partition a concept."""
    folder = tmp_path_factory.mktemp("profile")
    profile = reduced_profile(folder)
    taxonomy = yaml.safe_load((folder / "taxonomy.yaml").read_text())
    first = taxonomy["categories"][0]["concepts"][0]
    taxonomy["categories"][0]["concepts"] = [
        {**first, "slug": f"{first['slug']}-{number}", "split": "train"}
        for number in range(CONCEPTS)
    ]
    taxonomy["categories"] = taxonomy["categories"][:1]
    (folder / "taxonomy.yaml").write_text(yaml.safe_dump(taxonomy))
    with serving() as (proxy, environment), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("ALIGNGUARD_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
        root = storage.parse_root(f"s3://{BUCKET}/states")
        root.fs.mkdir(BUCKET)  # pyright: ignore[reportAttributeAccessIssue]
        engines = Engines(load_profile(str(profile)), root)
        engines.data.prepare()
        empty = {
            name: schema_of(record).empty_table()
            for name, record in SHARD_RECORDS["prompts"].items()
        }
        for key in PROMPTS.partitions(engines):
            with open_partition(PROMPTS.spec(engines, key)) as work:
                work.finish(tables=empty)
        yield proxy, engines


def overlapped(proxy) -> bool:
    """Many at once, and never more than the bound."""
    return proxy.alone < proxy.asked / 3 and proxy.most_at_once <= storage.AT_ONCE


def test_states_are_asked_many_at_a_time_by_one_request_a_file(on_bucket):
    proxy, engines = on_bucket
    proxy.count(LATENCY)
    assert set(PROMPTS.states(engines).values()) == {"done"}
    # A concept's hard negatives, the manifest, and the sizes of the two shards.
    assert proxy.asked == 4 * CONCEPTS
    assert overlapped(proxy)


def test_a_plan_asks_many_at_a_time(on_bucket):
    proxy, engines = on_bucket
    proxy.count(LATENCY)
    plans = {plan.room: plan for plan in plan_rooms(engines)}
    assert (plans["prompts"].to_make, len(plans["images"].to_make)) == ([], CONCEPTS)
    assert overlapped(proxy)


def test_the_sensor_asks_many_at_a_time(on_bucket):
    proxy, engines = on_bucket
    proxy.count(LATENCY)
    assert unfinished(engines, set()) == {}
    assert overlapped(proxy)
