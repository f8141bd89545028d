"""The report's tables as text, shared by the page, Markdown and the model card."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from alignguard_train.contracts.adapter_names import BASE, MERGED, label
from alignguard_train.contracts.intervals import Interval
from alignguard_train.evaluation.report.data import ReportData

DASH = "–"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportTable:
    """One table: rows of a name and cells; ``key`` is its place on the page."""

    key: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def tables(data: ReportData) -> list[ReportTable]:
    """Every table that has data, in the report's order."""
    made = [_headline(data), *_differences(data), _matrix(data), _kept(data), _peers(data)]
    made += [_prompt_set(data, name) for name in data.prompt_sets]
    made += _guards(data)
    return [table for table in made if table.rows and len(table.columns) > 1]


def percent(found: Interval | None) -> str:
    """A share as text, with its interval."""
    if found is None:
        return DASH
    return f"{share(found.value)} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def share(value: float) -> str:
    """A share as text."""
    return f"{100 * value:.1f} %"


def number(found: Interval | None) -> str:
    """A mean (not a share) as text, with its interval."""
    if found is None:
        return DASH
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def points(found: Interval | None) -> str:
    """A difference of shares in percentage points, with its sign and interval."""
    if found is None:
        return DASH
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


Column = tuple[str, str, str, str, Callable[[Interval | None], str]]
"""Title, side, metric, subset and format."""
_SHARES: tuple[Column, ...] = (
    ("IP, unsafe prompts", "unsafe", "ip", "all", percent),
    ("… seen concepts", "unsafe", "ip", "seen", percent),
    ("… unseen concepts", "unsafe", "ip", "unseen", percent),
    ("SSR-N, unsafe prompts", "unsafe", "ssr", "all", percent),
    ("Residue, unsafe prompts", "unsafe", "residue", "all", percent),
    ("IP, safe prompts", "safe", "ip", "all", percent),
    ("Fidelity, safe prompts", "safe", "fidelity", "all", percent),
)


def _table(data: ReportData, key: str, title: str, note: str, columns: list[Column]) -> ReportTable:
    measured = [c for c in columns if any(data.get(a, c[1], c[2], c[3]) for a in data.adapters)]
    rows = (
        (label(a), tuple(show(data.get(a, side, m, s)) for _, side, m, s, show in measured))
        for a in data.adapters
    )
    titles = ("Adapter", *(column[0] for column in measured))
    return ReportTable(key=key, title=title, note=note, columns=titles, rows=tuple(rows))


def _headline(data: ReportData) -> ReportTable:
    return _table(
        data,
        "headline",
        "Every adapter",
        "IP is the share of images that a scorer flags; on unsafe prompts less is better. Seen "
        "concepts were in the training of the experts, unseen ones were not.",
        list(_SHARES),
    )


def _differences(data: ReportData) -> Iterator[ReportTable]:
    wanted = (("unsafe", "ip"), ("unsafe", "residue"), ("safe", "ip"), ("safe", "fidelity"))
    titles = ("IP, unsafe prompts", "Residue, unsafe prompts", "IP, safe prompts", "Fidelity")
    note = (
        "in percentage points, on the same prompts and seeds. p is McNemar's exact test of IP on "
        "unsafe prompts, counting the prompts that one flags and the other does not; it is not "
        "adjusted for the number of comparisons."
    )

    def row(adapter: str, against: str) -> tuple[str, ...]:
        found = [data.paired.get((adapter, against, side, "all", m)) for side, m in wanted]
        cells = [points(one.interval if one else None) for one in found]
        ip = found[0]
        exact = DASH if ip is None or ip.p is None else f"{ip.p:.2g} ({ip.more}:{ip.fewer})"
        return (*cells, exact)

    pairs = list(dict.fromkeys((key[0], key[1]) for key in data.paired))
    pairs = [pair for pair in pairs if not set(pair) & set(data.peers)]
    against_base = [(a, b) for a, b in pairs if b == BASE]
    merged = [(a, b) for a, b in pairs if a == MERGED and b != BASE]
    yield ReportTable(
        key="against-base",
        title="Each adapter against the base model",
        note=f"Adapter minus base, {note}",
        columns=("Adapter", *titles, "p"),
        rows=tuple((label(a), row(a, b)) for a, b in against_base),
    )
    yield ReportTable(
        key="against-merged",
        title="The merged adapter against the others",
        note=f"Merged adapter minus the other, {note}",
        columns=("Other", *titles, "p"),
        rows=tuple((label(b), row(a, b)) for a, b in merged),
    )


def _matrix(data: ReportData) -> ReportTable:
    return _table(
        data,
        "matrix",
        "IP by category of the prompt",
        "An expert should clear the cell of its own category; the merged adapter its whole row. "
        "A category that an expert makes worse is a conflict.",
        [(c, "unsafe", "ip", f"category:{c}", percent) for c in data.categories],
    )


def _kept(data: ReportData) -> ReportTable:
    made = _table(
        data,
        "kept",
        "What is kept on safe prompts",
        "Feature distance is 1 minus the cosine of the features of the image and of the base "
        "model's image of the same prompt and seed; pixel distance is their root mean square "
        "difference, pixels from 0 to 1.",
        [
            ("Fidelity", "safe", "fidelity", "all", percent),
            ("CLIP score", "safe", "clip_score", "all", number),
            ("Feature distance", "safe", "feature_distance", "all", number),
            ("Pixel distance", "safe", "distance", "all", number),
        ],
    )
    if not data.distributions:
        return made
    rows = tuple(
        (name, (*cells, *(_distribution(data, adapter, m) for m in ("fid", "kid"))))
        for adapter, (name, cells) in zip(data.adapters, made.rows, strict=True)
    )
    one = next(iter(data.distributions.values()))
    note = (
        f"{made.note} FID and KID: against {one['reference']}, n = {one['n']}, "
        f"{one['resolution']}, features of {one['extractor']}; KID ± its standard deviation over "
        "subsets."
    )
    return ReportTable(
        key=made.key,
        title=made.title,
        note=note,
        columns=(*made.columns, "FID", "KID"),
        rows=rows,
    )


def _distribution(data: ReportData, adapter: str, metric: str) -> str:
    found = data.distributions.get((adapter, "safe", "all", metric))
    if found is None:
        return DASH
    spread = "" if found["std"] is None else f" ± {found['std']:.4f}"
    return f"{found['value']:.4f}{spread}"


def _peers(data: ReportData) -> ReportTable:
    columns: list[Column] = [
        *_SHARES,
        ("Feature distance, safe prompts", "safe", "feature_distance", "all", number),
    ]
    shown = [a for a in (BASE, MERGED, *data.peers) if a in data.adapters or a in data.peers]
    measured = [c for c in columns if any(data.get(a, c[1], c[2], c[3]) for a in shown)]

    def row(adapter: str) -> tuple[str, ...]:
        cells = [show(data.get(adapter, side, m, s)) for _, side, m, s, show in measured]
        cost = data.costs.get(adapter)
        if cost is None:
            return (*cells, DASH, DASH)
        return (*cells, f"{cost['seconds_per_image']:.3g}", f"{cost['training_seconds']:.3g}")

    return ReportTable(
        key="peers",
        title="Peers: other published methods on the same prompts and seeds",
        note="Each was given the names and some prompts of the concepts that the experts were "
        "trained on. Seconds per image cover only rendering in this run; seconds of "
        "training are all the time before the first image, which for our adapter is that of all "
        "experts one after another. Other load on the machine affects both.",
        columns=("Method", *(c[0] for c in measured), "Seconds per image", "Seconds of training"),
        rows=tuple((label(a), row(a)) for a in shown) if data.peers else (),
    )


def _prompt_set(data: ReportData, name: str) -> ReportTable:
    kind = data.prompt_sets[name]
    side, here = ("safe" if kind == "benign" else "unsafe"), f"set:{name}"
    columns: list[Column] = [
        ("IP", side, "ip", here, percent),
        ("… seen concepts", side, "ip", f"{here}/seen", percent),
        ("… unseen concepts", side, "ip", f"{here}/unseen", percent),
        ("SSR-N", side, "ssr", here, percent),
        ("CLIP score", side, "clip_score", here, number),
    ]
    if kind == "benign":
        columns += [
            ("Fidelity", side, "fidelity", here, percent),
            ("… seen concepts", side, "fidelity", f"{here}/seen", percent),
            ("… unseen concepts", side, "fidelity", f"{here}/unseen", percent),
            ("Feature distance", side, "feature_distance", here, number),
            ("… seen concepts", side, "feature_distance", f"{here}/seen", number),
            ("… unseen concepts", side, "feature_distance", f"{here}/unseen", number),
        ]
    what = {
        "benign": "Benign prompts near a concept must keep their picture: over-refusal is fidelity "
        "lost and distance gained.",
        "unsafe": "Unsafe prompts from elsewhere; less IP is better.",
    }[kind]
    found = data.get(BASE, side, "ip", here)
    note = f"{what} n = {found.n}." if found else what
    return _table(data, f"set-{name}", f"Prompt set {name}", note, columns)


GuardColumn = tuple[str, str, str, str]
"""Title, side, subset and measure."""
_GUARDED: tuple[GuardColumn, ...] = (
    ("Blocked, unsafe prompts", "unsafe", "all", "block_rate"),
    ("Drawn otherwise, unsafe", "unsafe", "all", "rewrite_rate"),
    ("Softened, unsafe", "unsafe", "all", "soften_rate"),
    ("Guard failed, unsafe", "unsafe", "all", "failed"),
    ("IP of what is drawn", "unsafe", "all", "ip_passed"),
    ("IP, blocked as safe", "unsafe", "all", "ip"),
    ("… seen concepts", "unsafe", "seen", "ip"),
    ("… unseen concepts", "unsafe", "unseen", "ip"),
    ("Blocked, safe prompts", "safe", "all", "block_rate"),
    ("Refused, safe prompts", "safe", "all", "refused"),
)


def _guards(data: ReportData) -> list[ReportTable]:
    """The guarded generator, and how long a guard takes; none without guards."""
    rows = list(dict.fromkeys(key[:2] for key in data.guards))
    shown = [c for c in _GUARDED if any(_varies(data, row, c) for row in rows)]

    def cells(row: tuple[str, str]) -> tuple[str, ...]:
        found = (data.guards.get((*row, side, subset, m)) for _, side, subset, m in shown)
        return tuple(f"{percent(one)} n = {one.n}" if one else DASH for one in found)

    matrix = ReportTable(
        key="guards",
        title="Guards: with and without, in front of the base model and of the merged adapter",
        note="A blocked prompt is not drawn; IP of what is drawn leaves it out, IP with blocked as "
        "safe counts it as safe. A failed guard blocks, and is in its own column. Refused: of the "
        "safe prompts that the base model draws as asked, those that are not. Columns of zeros "
        "are left out.",
        columns=("Guard + what draws", *(c[0] for c in shown)),
        rows=tuple(
            (f"{guard} + {label(adapter)}", cells((guard, adapter))) for guard, adapter in rows
        ),
    )
    times = ReportTable(
        key="guard-times",
        title="Milliseconds of a guard's decision on one prompt",
        note="Text encoding included; the encoder's share is of the median. As it went in this "
        "run: other work of the machine changes it.",
        columns=("Guard", "Median", "95th percentile", "Encoder's share", "n"),
        rows=tuple(
            (
                name,
                (
                    f"{own['latency_p50_ms']:.2f}",
                    f"{own['latency_p95_ms']:.2f}",
                    share(own["encoder_share"]),
                    f"{own['n']}",
                ),
            )
            for name, own in data.guard_times.items()
        ),
    )
    return [matrix, times]


def _varies(data: ReportData, row: tuple[str, str], column: GuardColumn) -> bool:
    """Whether the column says something of this row: rates of actions may all be 0."""
    _, side, subset, measure = column
    found = data.guards.get((*row, side, subset, measure))
    always = measure in ("ip", "ip_passed", "block_rate")
    return found is not None and (always or found.value > 0)
