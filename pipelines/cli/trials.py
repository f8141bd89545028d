"""Commands that put the adapters to the test, and make them harder to break."""

from typing import Annotated

import typer

from pipelines.cli.console import Output
from pipelines.cli.options import Json, OwnProfile, OwnRoot


def attack(
    preset: Annotated[
        str | None,
        typer.Option(help="Sizes: smoke (2 cases, to try), standin (21) or paper (95, published)."),
    ] = None,
    attacks: Annotated[
        list[str] | None,
        typer.Option("--attack", help="Only this attack; may be given several times."),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", help="Only this target; may be given several times."),
    ] = None,
    cases: Annotated[int | None, typer.Option(help="Number of cases, over the preset's.")] = None,
    names: Annotated[
        bool, typer.Option("--list", help="List attacks, what each needs, and the targets.")
    ] = False,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Attack the base model and the adapters, and print what broke, with intervals and queries.

    An attack searches for a prompt with which the target still draws the concept. The prompts found
    are judged with fresh seeds. `no_attack` and the base model are always measured too.

    Without options it runs the profile's `robustness`: attacks x targets. With --preset, --attack,
    --target or --cases it makes a separate matrix and keeps the profile's, for example

    `alignguard attack --preset smoke --attack ring_a_bell --target merged`

    It needs the merged adapter (`alignguard run --until merge`). If killed, the next call resumes
    at the case. Only hashes of prompts are kept, unless `robustness.keep_texts` is true.
    """
    from pipelines.cli.attack import attack_command, list_command

    if names:
        raise typer.Exit(list_command(Output(), as_json=as_json))
    raise typer.Exit(
        attack_command(
            Output(stderr=as_json),
            preset=preset,
            attacks=attacks or [],
            targets=targets or [],
            cases=cases,
            as_json=as_json,
        )
    )


def harden(
    rounds: Annotated[
        int, typer.Option(min=1, max=20, help="Total rounds, including those of earlier calls.")
    ] = 1,
    measure: Annotated[
        bool,
        typer.Option(help="Attack every adapter with held-out prompts at the end, like `attack`."),
    ] = True,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Turn prompts found by attacks into training data, and continue training the experts.

    A round attacks the newest adapter with prompts of the train split. A prompt that still draws
    its concept, with seeds not used in the search, becomes a hard negative: with the safe twin of
    the attacked pair it is checked, rendered, scored and filtered like any other pair, and added in
    a minor release. The experts continue from their last weights and are merged as
    `hardened ROUND`. At the end every adapter is attacked with held-out prompts.

    `alignguard harden` makes round 1, `alignguard harden --rounds 2` then the second. A killed call
    resumes where it stopped. A round that finds nothing says so and releases nothing.
    """
    from pipelines.cli.harden import harden_command

    raise typer.Exit(
        harden_command(Output(stderr=as_json), rounds=rounds, measure=measure, as_json=as_json)
    )


def arena(
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Compare every defence in one table: its unsafe share, and its cost.

    Reads existing results: the evaluation, attacks (`alignguard attack`), and guards
    (`alignguard guard train`). It measures nothing: a cell without a figure says *not measured*.
    Each figure has its interval and n; one over other prompts or another release is marked.
    Defences on the Pareto front of safety and cost have a star.

    Writes arena.html, with a sortable table, and arena.json. The exit code is 1 if a summary
    cannot be read.
    """
    from pipelines.cli.arena import arena_command

    raise typer.Exit(arena_command(Output(stderr=as_json), as_json_text=as_json))


def reemergence(
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", help="Only this one: full, stacked or modular; repeatable."),
    ] = None,
    adapters: Annotated[
        list[str] | None,
        typer.Option("--adapter", help="Only this safety adapter, as `merged`; repeatable."),
    ] = None,
    steps: Annotated[
        list[int] | None,
        typer.Option("--steps", help="Measure after this many steps; repeatable, in order."),
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Seed of a fine-tuning; repeatable.")
    ] = None,
    profile: OwnProfile = None,
    root: OwnRoot = None,
    as_json: Json = False,
) -> None:
    """Fine-tune on harmless images, and measure how much of what the adapter removed comes back.

    Fine-tuning a model for a style can unintentionally undo a safety adapter. Three variants are
    compared: *full* trains all weights of base and safety adapter; *stacked* trains a style adapter
    on top of both; *modular* trains it on the base model and adds both afterwards.
    IP on unsafe prompts and the benign loss are measured at several step counts, with intervals.

    Without options it runs the profile's `reemergence`. With options it makes a separate
    measurement, for example

    `alignguard reemergence --variant stacked --steps 100 --steps 1000 --seed 0 --seed 1`

    It needs the merged adapter (`alignguard run --until merge`). If killed, the next call resumes
    at the last saved step. For your own images set `reemergence.benign.folder` in the profile.
    """
    from pipelines.cli.reemergence import reemergence_command

    raise typer.Exit(
        reemergence_command(
            Output(stderr=as_json),
            variants=variants or [],
            adapters=adapters or [],
            steps=steps or [],
            seeds=seeds or [],
            as_json=as_json,
        )
    )
