"""The rows that the evaluation renders, judges and refuses."""

from dataclasses import dataclass

from alignguard_train.evaluation.config import RELEASE_SET


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRow:
    """One image to render.

    Attributes:
        pair_id: id of the release's pair, or of the set's prompt.
        side: ``unsafe`` where the image should not show what the prompt asks for, else ``safe``.
        concept: taxonomy key; may be empty in a prompt set.
        category: the concept's; in a prompt set several keys may be joined by commas.
        seen: experts were trained on the concept.
        prompt: the text to draw.
        seed: of the initial noise.
        prompt_set: name of the set, or the release's.
        guidance_scale: None: the generator's; 0: no guidance.
        width: in pixels; 0: the generator's.
        height: in pixels; 0: the generator's.
    """

    pair_id: str
    side: str
    concept: str
    category: str
    seen: bool
    prompt: str
    seed: int
    prompt_set: str = RELEASE_SET
    guidance_scale: float | None = None
    width: int = 0
    height: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedImage:
    """One judged image of one adapter; NaN for measures that were not requested.

    ``distance`` is the root mean square difference to the base model's image of the same prompt
    and seed, with pixels from 0 to 1; ``feature_distance`` is 1 minus the cosine of the two
    images' features. ``features`` are float32 bytes, empty without an extractor.
    """

    adapter: str
    """Base, merged, an expert, a baseline or a peer."""
    pair_id: str
    """Id of the prompt's pair, or of a prompt set's prompt."""
    side: str
    """Unsafe: the image should not show what its prompt asks for; else safe."""
    concept: str
    """Key of the concept: category, dot, slug; empty where a prompt set names none."""
    category: str
    """Category keys, joined by commas."""
    seen: bool
    """Whether experts were trained on the concept."""
    prompt: str
    """The rendered prompt."""
    seed: int
    """Seed of the initial noise."""
    prompt_set: str
    """Release, or name of the prompt set."""
    guidance_scale: float
    """Classifier-free guidance; 0: none."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    image_id: str
    """Sha256 (hex) of the encoded file."""
    flagged: bool
    """Whether a rule of the profile's flags fires."""
    residue: float
    """1 where the residue rule fires, else 0; NaN: not asked for."""
    fidelity: float
    """0 to 1: whether the image shows what its prompt asks; NaN: not asked for."""
    clip_score: float
    """How well the image shows its prompt; NaN: not asked for."""
    distance: float
    """Root mean square difference to the base model's image, pixels from 0 to 1."""
    feature_distance: float
    """1 minus the cosine of both images' features; NaN: no extractor."""
    features: bytes
    """Float32 bytes; empty without an extractor."""
    image: bytes
    """Encoded image (PNG)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeededImage:
    """The verdict on an unsafe prompt with another seed; the image is not kept."""

    adapter: str
    """Base, merged, hardened, All-single or a peer."""
    pair_id: str
    """Id of the prompt's pair, or of a prompt set's prompt."""
    number: int
    """Of the seed, from 2; the first is that of the table of images."""
    seed: int
    """Seed of the initial noise."""
    flagged: bool
    """Whether a rule of the profile's flags fires."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardedImage:
    """One prompt of one guard in front of one adapter, and what was drawn of it.

    A prompt that is allowed has the adapter's own image of the table of images, which the guard
    leaves as it is; one that is rewritten or softened is drawn again.
    """

    guard: str
    """Name of the guard."""
    adapter: str
    """What draws behind it: base or merged."""
    pair_id: str
    """Id of the prompt's pair, or of a prompt set's prompt."""
    side: str
    """Unsafe or safe, as of the image."""
    concept: str
    """Key of the concept; empty where a prompt set names none."""
    category: str
    """Category keys, joined by commas."""
    seen: bool
    """Whether experts were trained on the concept."""
    prompt_set: str
    """Release, or name of the prompt set."""
    action: str
    """Allow, block, rewrite or soften."""
    reason: str
    """Slug of the reason, without its detail."""
    failed: bool
    """The guard could not decide, so it blocks; counted apart from what it detects."""
    score: float
    """Higher is more unsafe; NaN if the guard failed."""
    flagged: bool
    """Whether a rule of the profile's flags fires on what was drawn; false for a blocked prompt."""
    fidelity: float
    """0 to 1: whether the image shows what its prompt asks; NaN: blocked, or not asked for."""
    image: bytes
    """Encoded image (PNG) of what was drawn again and is shown in the report, else empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardedMeasure:
    """One number of a guard, or of none, in front of an adapter."""

    guard: str
    """Name of the guard; none: the adapter without a guard."""
    adapter: str
    """What draws behind it: base or merged."""
    side: str
    """Unsafe or safe prompts."""
    subset: str
    """Which prompts: all, seen or unseen of the release, or a prompt set."""
    measure: str
    """Block_rate, rewrite_rate, soften_rate, failed; ip_passed: of what was drawn; ip: blocked
    prompts count as safe; refused: of safe prompts that the base model draws as asked, those that
    are not."""
    value: float
    """A share, 0 to 1."""
    low: float
    """Lower end of the confidence interval."""
    high: float
    """Upper end of the confidence interval."""
    n: int
    """Prompts that it is over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedPrompt:
    """A refused prompt with the reason slug, without its text."""

    prompt_set: str
    """Name of the prompt set."""
    place: str
    """File and row of the prompt."""
    reason: str
    """Reason slug."""
    detail: str
    """What is wrong, never the text itself."""
