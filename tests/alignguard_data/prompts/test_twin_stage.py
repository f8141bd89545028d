"""Two stages of writing: another writer's twins, refused ones counted with their reasons."""

import json
from collections import Counter
from dataclasses import dataclass, field

import pytest

from alignguard_data.contracts.errors import EngineError
from alignguard_data.contracts.protocols import Reply, Twin, WritingRequest
from alignguard_data.contracts.records import PromptPair, RejectedReply, from_table
from alignguard_data.prompts.gate import REASONS, TWIN_REASONS
from alignguard_data.prompts.room import spec, write_prompt_pairs
from alignguard_data.prompts.twin_stage import TwinStage
from alignguard_data.storage import manifest as manifests
from alignguard_data.storage.paths import DataRoot
from tests.alignguard_data.tiny_rooms import WRITING, TinyWriter, concept

BAR = concept("lines.bar")


@dataclass
class TinyTwins:
    """Cuts the concept off, except where ``refused`` names a reason for a number of the prompt."""

    refused: dict[int, str] = field(default_factory=dict)
    model_id: str = "tiny-twins of release-1"
    revision: str = "t1"
    asked: list[str] = field(default_factory=list)
    loads: int = 0
    closed: int = 0

    def load(self) -> None:
        self.loads += 1

    def twins(self, unsafe, concepts):
        found = []
        for text, own in zip(unsafe, concepts, strict=True):
            reason = self.refused.get(len(self.asked), "")
            self.asked.append(text)
            safe = text.removesuffix(f" and a {own.terms[0]}") + " again"
            found.append(Twin(text=safe, reason=reason))
        return found

    def close(self) -> None:
        self.closed += 1


def replies(twins: TinyTwins, *faults: object, **named: str) -> list[Reply]:
    writer = TinyWriter(faults=dict(enumerate(faults)), **named)
    requests = [WritingRequest(concept=BAR, index=i) for i in range(max(1, len(faults)))]
    return TwinStage(writer, twins).generate(requests)


def test_the_unsafe_prompt_is_the_writers_and_the_safe_one_the_twin_writers():
    (reply,) = replies(TinyTwins())
    pair = json.loads(reply.text)
    assert pair["unsafe_prompt"].endswith("and a bar")
    assert pair["safe_prompt"].endswith("again")
    assert reply.finish_reason == "stop"


def test_a_writer_may_leave_the_safe_prompt_out():
    (reply,) = replies(TinyTwins(), json.dumps({"unsafe_prompt": "a red field and a bar"}))
    assert json.loads(reply.text)["safe_prompt"] == "a red field again"


UNSAFE, SAFE = "a red field at noon and a bar", "a red field at noon"
PAIR = json.dumps({"unsafe_prompt": UNSAFE, "safe_prompt": SAFE})


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Reply(text=PAIR, finish_reason="length"), "cut_off"),
        (Reply(text=PAIR, finish_reason="content_filter"), "refusal"),
        (" ", "empty"),
        ("no JSON", "unparseable"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        (json.dumps({"prompt": UNSAFE}), "schema"),
        (json.dumps({"unsafe_prompt": f"{UNSAFE} and a child", "safe_prompt": SAFE}), "minors"),
        # The last object counts: what the writer says is safe in another one is never taken.
        (PAIR + json.dumps({"unsafe_prompt": "a child"}), "minors"),
        (PAIR + json.dumps({"unsafe_prompt": ""}), "empty"),
    ],
)
def test_a_reply_without_a_usable_prompt_gets_no_twin_and_the_gates_own_reason(
    tmp_path, said, reason
):
    twins, data = TinyTwins(), DataRoot(root=tmp_path, profile="tiny")
    writer = TinyWriter(faults={0: said})
    manifest = write_prompt_pairs(data, BAR, TwinStage(writer, twins), WRITING)
    assert manifest.rejected == {reason: 1}
    assert len(twins.asked) == WRITING.pairs_per_concept
    assert not any("child" in text for text in twins.asked)


def test_refused_twins_are_stored_with_their_reasons_and_the_funnel_is_exact(tmp_path):
    data = DataRoot(root=tmp_path, profile="tiny")
    reasons = [*TWIN_REASONS, "minors", "twins_identical", "safe_prompt_holds_concept"]
    twins = TinyTwins(refused=dict(enumerate(reasons)))
    manifest = write_prompt_pairs(data, BAR, TwinStage(TinyWriter(), twins), WRITING)
    assert manifest.rejected == dict.fromkeys(reasons, 1)
    assert set(reasons) < set(REASONS)
    folder = data.partition("prompts", BAR.key)
    rejected = from_table(RejectedReply, manifests.read(folder, "rejected"))
    pairs = from_table(PromptPair, manifests.read(folder, "pairs"))
    assert Counter(row.reason for row in rejected) == Counter(reasons)
    assert manifest.counts["requests"] == len(pairs) + len(rejected) == len(twins.asked)
    assert len(pairs) == WRITING.pairs_per_concept


def test_every_pair_and_the_manifest_say_what_wrote_the_twins(tmp_path):
    data = DataRoot(root=tmp_path, profile="tiny")
    stage = TwinStage(TinyWriter(), TinyTwins())
    manifest = write_prompt_pairs(data, BAR, stage, WRITING)
    name = "tiny-writer + tiny-twins of release-1"
    assert manifest.models == {name: "1 + t1"}
    pairs = from_table(PromptPair, manifests.read(data.partition("prompts", BAR.key), "pairs"))
    assert {pair.writer for pair in pairs} == {name}
    prints = {
        spec(data, BAR, one, WRITING).fingerprint
        for one in (
            TinyWriter(),
            stage,
            TwinStage(TinyWriter(), TinyTwins(revision="t2")),
            TwinStage(TinyWriter(), TinyTwins(model_id="tiny-twins of release-2")),
            TwinStage(TinyWriter(revision="2"), TinyTwins()),
        )
    }
    assert len(prints) == 5


def test_the_twin_writer_loads_before_the_writer_is_asked():
    class Refuses(TinyTwins):
        def load(self) -> None:
            raise EngineError("another text encoder")

    writer = TinyWriter()
    with pytest.raises(EngineError, match="another text encoder"):
        TwinStage(writer, Refuses()).generate([WritingRequest(concept=BAR, index=0)])
    assert writer.asked == []


def test_another_number_of_twins_than_prompts_is_refused():
    class Loses(TinyTwins):
        def twins(self, unsafe, concepts):
            return []

    with pytest.raises(EngineError, match="gave 0 twins to 1 prompts"):
        replies(Loses())


def test_both_writers_are_closed():
    class Closes(TinyWriter):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    writer, twins = Closes(), TinyTwins()
    TwinStage(writer, twins).close()
    assert (writer.closed, twins.closed) == (1, 1)
