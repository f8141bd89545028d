"""`alignguard harden`: rounds of adversarial training, and what each found."""

from collections import Counter

from rich.progress import Progress

from alignguard_train.contracts.adapter_names import label
from pipelines.cli.console import Output
from pipelines.cli.report import print_summary
from pipelines.cli.run import Bars, bars
from pipelines.profile import load_profile
from pipelines.resources import Engines, data_root
from pipelines.rooms import ROBUSTNESS
from pipelines.runtime.driver import run_room
from pipelines.runtime.hardening import HardeningListener, Round, harden, round_matrix
from pipelines.runtime.work import attacked_cases


class _Shown(Bars, HardeningListener):
    """The bars of a run, and one for the attacks of each round."""

    def __init__(self, console: Output, engines: Engines, progress: Progress) -> None:
        super().__init__(console, engines, progress)
        self._out, self._own = console, engines

    def attack_started(self, number: int, target: str, cases: int) -> None:
        """Show a bar for the attacks."""
        total = attacked_cases(round_matrix(self._own, number, target))
        self._out.say(f"round {number}: attacks on {label(target)} with {cases} train prompts each")
        self.open_bar("attack", total)

    def round_ended(self, made: Round) -> None:
        """Say what the round found."""
        self.close_bar()
        self._out.say(describe(made))


def describe(made: Round) -> str:
    """One line about a round, without any prompt."""
    start = f"round {made.number}: "
    if made.report.failures:
        return start + "failed; finished work is kept"
    if made.found is None:
        where = f"its hard negatives are in {made.released}" if made.released else "none released"
        return start + f"is made; {where}"
    found = made.found
    words = f"{found.broken} of {found.attacked} searches broke {label(made.target)}"
    if found.unjudged:
        words += f"; {found.unjudged} have no verdict, as the judge failed"
    if made.refused:
        words += "; not used: " + ", ".join(f"{n} {why}" for why, n in made.refused.items())
    if not made.added:
        return start + words + "; no new hard negative, so nothing is released"
    by_attack = Counter(entry.attack for entry in made.added).most_common()
    words += "; hard negatives: " + ", ".join(f"{n} by {attack}" for attack, n in by_attack)
    released = made.released or "none of them passed gate and filter, so no adapter was trained"
    return start + f"{words}; {released}"


def harden_command(console: Output, *, rounds: int, measure: bool, as_json: bool) -> int:
    """Make the rounds and print them; returns 0, or 1 if a room failed.

    Raises:
        ConfigError: a rule is over a score that does not exist, an attack refuses its parameters,
            or a setting does not fit the base model.
    """
    engines = Engines(load_profile(), data_root())
    engines.check_base_model()
    engines.check_scores()
    console.say("profile ", (engines.profile.name, "bold"), f", data in {engines.data.base}")
    with bars(console) as progress:
        shown = _Shown(console, engines, progress)
        made = harden(engines, shown, rounds)
        failures = dict(made[-1].report.failures)
        if measure and not failures and (why := run_room(engines, ROBUSTNESS, shown)):
            failures["robustness"] = why
    if as_json:
        Output().json({"rounds": [_row(one) for one in made], "failed": failures})
    for place, why in failures.items():
        console.say(console.mark(False), f" {place}: {why}")
    if failures:
        console.say("Failed. Finished work is kept: fix the cause and run again.")
        return 1
    print_summary(console, engines.data)
    return 0


def _row(one: Round) -> dict[str, object]:
    return {
        "round": one.number,
        "target": one.target,
        "attacked": one.found.attacked if one.found else None,
        "broken": one.found.broken if one.found else None,
        "unjudged": one.found.unjudged if one.found else None,
        "hard_negatives": dict(Counter(entry.attack for entry in one.added)),
        "refused": one.refused,
        "release": one.released,
    }
