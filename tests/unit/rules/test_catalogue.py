"""Every rule's own cases, its page, and the promises that all rules make."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.catalogue import catalogue
from trainprof.rules.engine import evaluate, grade
from trainprof.rules.fixes.registry import all_fixes
from trainprof.rules.pages import page, thresholds
from trainprof.rules.rule import SECTIONS, Case, Rule
from trainprof.rules.write_pages import FOLDER, OF_TRACES, pages, rules_of_traces

RULES = catalogue()
FIRST_WORDS_OF_ADVICE = {
    *("add", "avoid", "call", "disable", "drop", "enable", "increase", "make", "move", "pass"),
    *("put", "raise", "reduce", "remove", "replace", "set", "switch", "turn", "use"),
}
STORIES = sorted(p.name for p in Path("sample_runs").iterdir() if p.is_dir())


def signals_of(case: Case) -> Signals:
    values = {}
    for name, value in case.signals.items():
        if isinstance(value, tuple):
            mean, low, high = value
            values[name] = Signal(mean, low=low, high=high)
        else:
            values[name] = Signal(value)
    return Signals(values)


def cases(kind: str) -> list[object]:
    return [
        pytest.param(rule, case, id=f"{rule.id}: {case.title}")
        for rule in RULES
        for case in getattr(rule, kind)
    ]


@pytest.mark.parametrize(("rule", "case"), cases("fires_on"))
def test_fires(rule: type[Rule], case: Case) -> None:
    signals = signals_of(case)
    missing = [name for name in rule().needs_of(signals) if signals.get(name).value is None]
    assert not missing

    candidates = list(rule().check(signals))

    assert len(candidates) == 1
    (candidate,) = candidates
    assert candidate.evidence
    assert candidate.summary.endswith((".", "?"))
    severity = grade(rule(), candidate)
    assert severity is not None
    if case.severity is not None:
        assert severity == case.severity
    if case.gain is not None:
        assert candidate.gain is not None
        assert case.gain[0] <= candidate.gain.middle <= case.gain[1]


@pytest.mark.parametrize(("rule", "case"), cases("fires_on"))
def test_what_is_advised_can_be_applied_with_these_parameters(rule: type[Rule], case: Case) -> None:
    known = all_fixes()
    for candidate in rule().check(signals_of(case)):
        for advice in candidate.fixes:
            if (kind := known.get(advice.fix)) is not None:
                params = {
                    name: advice.params[name] for name in kind.parameters if name in advice.params
                }
                kind(params).edit()  # raises ValueError where one is wrong or missing


@pytest.mark.parametrize(("rule", "case"), cases("silent_on"))
def test_silent(rule: type[Rule], case: Case) -> None:
    signals = signals_of(case)
    missing = [name for name in rule().needs_of(signals) if signals.get(name).value is None]
    assert not missing

    assert [c.summary for c in rule().check(signals) if grade(rule(), c) is not None] == []


@pytest.mark.parametrize(("rule", "case"), cases("fires_on"))
def test_applies_where_it_fires(rule: type[Rule], case: Case) -> None:
    assert rule().applies(signals_of(case))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_has_cases_of_both_kinds(rule: type[Rule]) -> None:
    assert rule.fires_on
    assert rule.silent_on


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_says_nothing_wrong_where_a_signal_is_missing(rule: type[Rule]) -> None:
    """A rule may lean on `needs` only; each other signal may be absent in a run."""
    for case in (*rule.fires_on, *rule.silent_on):
        signals = signals_of(case)
        for absent in set(case.signals) - set(rule().needs_of(signals)):
            values = {n: s for n, s in signals.values.items() if n != absent}
            for candidate in rule().check(Signals(values)):
                assert candidate.evidence
                assert "None" not in candidate.summary


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_gain_is_an_interval_and_shares_are_shares(rule: type[Rule]) -> None:
    for case in rule.fires_on:
        for candidate in rule().check(signals_of(case)):
            if candidate.gain is not None:
                assert 1.0 <= candidate.gain.low <= candidate.gain.high < 101
            for share in (candidate.share, candidate.share_low):
                assert share is None or 0.0 <= share <= 1.0
            if not rule.can_warn:
                assert candidate.severity == "info" or candidate.max_severity == "info"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_fixes_say_what_to_do_and_how_safe_it_is(rule: type[Rule]) -> None:
    advice = [
        fix for case in rule.fires_on for c in rule().check(signals_of(case)) for fix in c.fixes
    ]
    assert advice or not rule.can_warn
    for fix in advice:
        assert fix.safety in ("safe", "numerics", "semantics")
        assert fix.text.endswith(".")
        json.dumps(fix.params)
        assert fix.safety in page(rule).lower()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_id_names_its_file_and_family(rule: type[Rule]) -> None:
    *_, package, module = rule.__module__.split(".")
    assert rule.id == f"{package}-{module.replace('_', '-')}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_page_has_every_section(rule: type[Rule]) -> None:
    documentation = rule.documentation()
    assert documentation.summary.endswith(".")
    assert tuple(documentation.sections) == SECTIONS
    assert all(documentation.sections.values())
    assert "https://" in documentation.sections["References"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_title_names_the_fault(rule: type[Rule]) -> None:
    assert rule.title.partition(" ")[0].lower() not in FIRST_WORDS_OF_ADVICE
    assert not rule.title.endswith(".")
    assert len(rule.title) <= 60


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_numbers_of_a_rule_are_named_and_explained(rule: type[Rule]) -> None:
    named = {name for t in thresholds(rule) for name in t.name.split(", ")}
    numbers = {
        name
        for name, value in vars(rule).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    assert numbers == named


def test_rules_suppress_rules_that_exist() -> None:
    known = {rule.id for rule in RULES}
    for rule in RULES:
        assert rule.id not in rule.suppresses
        assert set(rule.suppresses) <= known


def test_no_rule_knows_a_story() -> None:
    for path in (*Path("rules").rglob("*.py"), *Path("docs/rules").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        assert not [story for story in STORIES if story in text], path


def test_ids_are_unique() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_pages_in_docs_are_up_to_date() -> None:
    """`python -m trainprof.rules.write_pages` writes them."""
    assert {p.name: p.read_text(encoding="utf-8") for p in FOLDER.glob("*.md")} == pages()


def test_the_rules_of_traces_are_known_without_importing_any() -> None:
    """`python -m trainprof.rules.write_pages` writes the list."""
    assert OF_TRACES.read_text(encoding="utf-8") == rules_of_traces()
    code = (
        "import sys; from trainprof.rules.trace_diagnosis import trace_rules; "
        "print(len(trace_rules()), sum('.catalogue.' in name for name in sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    asked, imported = map(int, told.stdout.split())
    assert asked == len(json.loads(rules_of_traces())) < imported < len(RULES)


def found(signals: dict[str, object]) -> dict[str, tuple[str, ...]]:
    """Rules whose findings a report lists, each with what it explains."""
    values = signals_of(Case("", {"step.steady_count": 500, "step.mean_s": 0.01, **signals}))
    evaluation = evaluate([rule() for rule in RULES], values)
    return {finding.rule: finding.suppresses for finding in evaluation.findings}


SLOW_OPTIMIZER: dict[str, object] = {
    "step.optimizer_share": (0.4, 0.38, 0.42),
    "step.forward_share": (0.2, 0.19, 0.21),
    "step.backward_share": (0.4, 0.38, 0.42),
    "optimizer.implementation": "forloop",
    "optimizer.fused_supported": True,
    "optimizer.type": "torch.optim.adam.Adam",
}


def test_anomaly_detection_explains_a_slow_optimizer() -> None:
    assert found({**SLOW_OPTIMIZER, "flags.anomaly_enabled": True}) == {
        "loop-debug-on": ("opt-unfused",)
    }


def test_determinism_explains_nothing() -> None:
    signals = {"flags.anomaly_enabled": False, "flags.deterministic_algorithms": True}
    assert found({**SLOW_OPTIMIZER, **signals}) == {"loop-debug-on": (), "opt-unfused": ()}


WAITING: dict[str, object] = {
    "step.data_wait_share": (0.5, 0.48, 0.52),
    "loader.num_workers": 2,
    "loader.persistent_workers": False,
    "loader.iterators_made": 20,
    "loader.producer_wall_s": 0.04,
    "loader.producer_cpu_s": 0.004,
    "loader.consumer_s": 0.01,
    "host.usable_cores": 8.0,
}


def test_waiting_at_epoch_starts_belongs_to_the_workers_start() -> None:
    at_start = {"loader.start_share": (0.47, 0.45, 0.49), "loader.start_s": 0.3}
    assert list(found({**WAITING, **at_start})) == ["data-persistent"]


def test_waiting_in_mid_epoch_and_at_epoch_starts_are_two_findings() -> None:
    at_start = {"loader.start_share": (0.15, 0.14, 0.16), "loader.start_s": 0.3}
    assert set(found({**WAITING, **at_start})) == {"data-persistent", "data-workers-under"}
