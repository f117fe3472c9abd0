"""Gates, grades, causes and order, with rules made for the purpose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.errors import UsageError
from trainprof.profiler.model.diagnosis import Evidence, Finding, Gain
from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.catalogue import catalogue
from trainprof.rules.causes import Judged, under_their_causes
from trainprof.rules.engine import LEAST_SHARE, SEVERITIES, evaluate, grade, judge
from trainprof.rules.registry import chosen_rules
from trainprof.rules.rule import Candidate, Rule
from trainprof.rules.verdict import pronounce

SEEN = (Evidence("step.data_wait_share", 0.5, "share"),)
GAIN = Gain(1.2, 1.8)


def candidate(share=0.5, **values):
    return Candidate("It is slow.", SEEN, share=share, **({"gain": GAIN} | values))


def rule(id="data-slow", candidates=(), **attributes):
    """A rule that says what it is told to."""

    def check(self, signals):
        yield from candidates

    named = {"id": id, "title": "Slow", "check": check, **attributes}
    return type("Made", (Rule,), named)()


def signals(steady=100, **values):
    known = {"step.steady_count": steady, "step.mean_s": 0.1, **values}
    return Signals({name.replace("__", "."): Signal(value) for name, value in known.items()})


def only(rule, given=None):
    (finding,) = evaluate([rule], given or signals()).findings
    return finding


class TestGrades:
    @pytest.mark.parametrize(
        ("share", "low", "expected"),
        [
            (0.029, None, None),
            (0.031, None, "info"),
            (0.11, None, "warn"),
            (0.21, None, "critical"),
            (0.5, 0.25, "critical"),
            (0.5, 0.15, "warn"),  # the interval reaches below 20 %
            (0.5, 0.05, "info"),
            (0.5, 0.02, None),
            (0.05, 0.5, "info"),  # a share below its own lower bound is a slip: the less counts
        ],
    )
    def test_follow_the_lower_bound(self, share, low, expected):
        assert grade(rule(), candidate(share, share_low=low)) == expected

    @given(st.floats(0, 1), st.floats(0, 1))
    def test_never_exceed_the_evidence(self, share, low):
        severity = grade(rule(), candidate(share, share_low=low))

        if severity is None:
            assert min(share, low) <= LEAST_SHARE["info"]
        else:
            assert min(share, low) > LEAST_SHARE[severity]

    def test_keep_the_limit_a_rule_sets(self):
        assert grade(rule(), candidate(0.9, max_severity="info")) == "info"
        assert grade(rule(), candidate(0.9, max_severity="warn")) == "warn"
        assert grade(rule(can_warn=False), candidate(0.9)) == "info"

    def test_may_be_fixed_where_no_share_applies(self):
        fatal = candidate(None, gain=None, severity="critical")

        assert grade(rule(), fatal) == "critical"
        assert grade(rule(can_warn=False), fatal) == "info"

    def test_a_gain_under_three_percent_is_no_finding(self):
        assert grade(rule(), candidate(gain=Gain(1.0, 1.02))) is None
        assert grade(rule(), candidate(gain=Gain(1.0, 1.03))) == "critical"
        assert grade(rule(), candidate(severity="warn", gain=Gain(1.0, 1.01))) is None

    def test_refuse_a_rule_without_evidence_or_measure(self):
        with pytest.raises(ValueError, match="no evidence"):
            grade(rule(), Candidate("So it is.", (), share=0.5))
        with pytest.raises(ValueError, match="neither a share nor a severity"):
            grade(rule(), candidate(None))


class TestGates:
    @pytest.mark.parametrize(("steady", "severity"), [(20, "critical"), (19, "info"), (2, "info")])
    def test_few_steps_give_notes_only(self, steady, severity):
        evaluation = evaluate([rule(candidates=[candidate()])], signals(steady))

        assert evaluation.findings[0].severity == severity
        assert [gated.rule for gated in evaluation.gated] == ["data-slow"] * (steady < 20)

    def test_one_step_gives_nothing(self):
        evaluation = evaluate([rule(candidates=[candidate()])], signals(1))

        assert evaluation.findings == ()
        assert "20 are needed" in evaluation.gated[0].reason

    def test_facts_that_need_no_timing_are_exempt(self):
        switch = candidate(None, severity="warn", timeless=True, confidence="high")

        finding = only(rule(candidates=[switch]), signals(0))

        assert (finding.severity, finding.confidence) == ("warn", "high")

    def test_a_note_is_not_held_back(self):
        evaluation = evaluate([rule(candidates=[candidate(0.05)])], signals(10))

        assert evaluation.findings[0].confidence == "low"
        assert evaluation.gated == ()

    def test_a_busy_machine_takes_confidence_not_the_grade(self):
        given = signals(host__contended=True)
        told = rule(candidates=[candidate(confidence="high")])
        contention = rule("loop-crowd", [candidate(gain=None, confidence="high")])

        assert only(told).confidence == "high"
        finding = only(told, given)
        assert (finding.severity, finding.confidence) == ("critical", "low")
        assert only(contention, given).confidence == "high"


class TestSkippedRules:
    def test_say_which_signal_was_missing_and_why(self):
        values = {"loader.where": Signal(None, reason="no DataLoader was iterated")}
        needy = rule(needs=("loader.where",), candidates=[candidate()])

        evaluation = evaluate([needy], Signals(values))

        assert evaluation.findings == ()
        assert evaluation.skipped[0].reason == "no DataLoader was iterated"
        assert evaluation.gated == ()

    def test_a_signal_that_nothing_knows(self):
        (skipped,) = evaluate([rule(needs=("gpu.colour",))], signals()).skipped

        assert "gpu.colour" in skipped.reason

    def test_a_zero_or_a_false_is_not_missing(self):
        zero = rule(needs=("a.zero", "a.off"), candidates=[candidate()])
        given = signals(a__zero=0, a__off=False)

        assert evaluate([zero], given).skipped == ()

    def test_a_rule_that_is_about_nothing_here_is_neither_asked_nor_skipped(self):
        about_workers = rule(
            candidates=[candidate()],
            needs=("loader.replay_s",),
            applies=lambda self, signals: False,
        )

        evaluation = evaluate([about_workers], signals())

        assert evaluation.findings == ()
        assert evaluation.skipped == ()

    @pytest.mark.parametrize(("can_warn", "gated"), [(True, 1), (False, 0)])
    def test_a_lost_collector_gates_rules_that_may_warn(self, can_warn, gated):
        values = {"gc.share": Signal(None, reason="its collector failed (x)", lost=True)}
        needy = rule(needs=("gc.share",), can_warn=can_warn)

        assert len(evaluate([needy], Signals(values)).gated) == gated

    def test_a_mistake_of_a_rule_is_not_hidden(self):
        def check(self, signals):
            raise ZeroDivisionError("a mistake")

        broken = type("Broken", (Rule,), {"id": "x-y", "title": "", "check": check})()

        with pytest.raises(ZeroDivisionError):
            evaluate([broken], signals())


class TestOrder:
    def test_by_seconds_that_come_back(self):
        some = rule("a-some", [candidate(gain=Gain(1.1, 1.2))])
        most = rule("b-most", [candidate(0.2, gain=Gain(2.0, 3.0))])

        findings = evaluate([some, most], signals()).findings

        assert [finding.rule for finding in findings] == ["b-most", "a-some"]

    def test_what_ends_the_training_comes_first(self):
        slow = rule("a-slow", [candidate(gain=Gain(5.0, 9.0))])
        leak = rule("z-leak", [candidate(None, gain=None, severity="critical")])
        note = rule("b-note", [candidate(None, gain=None, severity="info")])

        findings = evaluate([slow, leak, note], signals()).findings

        assert [finding.rule for finding in findings] == ["z-leak", "a-slow", "b-note"]

    def test_a_warning_without_seconds_comes_before_notes(self):
        note = rule("a-note", [candidate(0.05, gain=Gain(1.04, 1.05))])
        waste = rule("b-waste", [candidate(None, gain=None, severity="warn")])
        slow = rule("c-slow", [candidate(0.5, gain=Gain(1.5, 2.0))])

        findings = evaluate([note, waste, slow], signals()).findings

        assert [finding.rule for finding in findings] == ["c-slow", "b-waste", "a-note"]

    def test_seconds_are_those_of_the_interval_s_middle(self):
        finding = only(rule(candidates=[candidate(gain=Gain(1.0, 4.0))]))

        assert finding.recoverable_s_per_step == pytest.approx(0.1 * (1 - 1 / 2))

    def test_without_a_time_model_or_a_step_time_no_seconds(self):
        assert only(rule(candidates=[candidate(gain=None)])).recoverable_s_per_step is None
        timeless = candidate(None, severity="warn", timeless=True)
        unknown = Signals({})
        assert only(rule(candidates=[timeless]), unknown).recoverable_s_per_step is None

    @given(st.lists(st.tuples(st.floats(0.04, 1), st.floats(1.0, 3.0)), max_size=6))
    def test_holds_for_any_findings(self, shapes):
        rules = [
            rule(f"a-{place}", [candidate(share, gain=Gain(low, low + 0.5))])
            for place, (share, low) in enumerate(shapes)
        ]

        findings = evaluate(rules, signals()).findings
        keys = [
            (
                f.severity == "info",
                f.severity == "info" and f.gain.low <= 1.0,
                -f.recoverable_s_per_step,
            )
            for f in findings
        ]

        assert keys == sorted(keys)
        assert len(keys) == len(rules)

    def test_what_may_gain_nothing_is_a_note_on_a_busy_machine(self):
        unsure = rule(candidates=[candidate(0.5, gain=Gain(1.0, 1.5))])
        sure = rule(candidates=[candidate(0.5, gain=Gain(1.2, 1.5))])
        busy = signals(host__contended=True)

        assert only(unsure, busy).severity == "info"
        assert only(unsure).severity == "critical"
        assert only(sure, busy).severity == "critical"
        assert only(sure, busy).confidence == "low"

    def test_a_note_that_only_a_trial_can_prove_comes_last(self):
        tried = rule("prec-note", [candidate(0.9, gain=Gain(1.0, 3.0), max_severity="info")])
        seen = rule("loop-note", [candidate(0.05, gain=Gain(1.02, 1.1))])

        findings = evaluate([tried, seen], signals()).findings

        assert [finding.rule for finding in findings] == ["loop-note", "prec-note"]

    def test_a_note_never_stands_before_a_warning(self):
        promising = rule("prec-note", [candidate(0.9, gain=Gain(2.0, 3.0), max_severity="info")])
        sure = rule("loop-warning", [candidate(0.15, gain=Gain(1.05, 1.1))])

        findings = evaluate([promising, sure], signals()).findings

        assert [finding.rule for finding in findings] == ["loop-warning", "prec-note"]


def found(name, share=0.5, explains=(), severity="warn", gain=GAIN):
    return Judged(Finding(name, severity, "", "", SEEN, share=share, gain=gain), tuple(explains))


def standing(*judged):
    return {finding.rule: finding.suppresses for finding in under_their_causes(judged)}


class TestCauses:
    def test_a_symptom_goes_under_its_cause(self):
        assert standing(found("cause", explains=["symptom"]), found("symptom", 0.4)) == {
            "cause": ("symptom",)
        }

    def test_a_cause_explains_a_symptom_of_which_it_is_more_than_half(self):
        assert standing(found("cause", 0.3, ["symptom"]), found("symptom", 0.5)) == {
            "cause": ("symptom",)
        }

    def test_a_cause_that_explains_too_little_leaves_both(self):
        assert standing(found("cause", 0.2, ["symptom"]), found("symptom", 0.5)) == {
            "cause": (),
            "symptom": (),
        }
        assert standing(found("cause", 0.4, ["symptom"]), found("symptom", 0.5)) == {
            "cause": ("symptom",)
        }

    def test_a_note_never_silences_a_warning(self):
        note = found("cause", 0.9, ["symptom"], severity="info")

        assert set(standing(note, found("symptom", 0.5))) == {"cause", "symptom"}

    def test_a_symptom_of_a_symptom_goes_under_the_root(self):
        judged = [
            found("middle", 0.5, ["leaf"]),
            found("leaf", 0.5),
            found("root", 0.5, ["middle"]),
        ]

        assert standing(*judged) == {"root": ("leaf", "middle")}

    def test_of_two_that_explain_each_other_the_larger_stands(self):
        pair = [found("small", 0.45, ["large"]), found("large", 0.5, ["small"])]

        assert standing(*pair) == {"large": ("small",)}

    def test_a_cause_without_a_share_explains_by_its_gain(self):
        switch = found("switch", None, ["slow"], gain=Gain(1.2, 1.875))

        assert standing(switch, found("slow", 0.6)) == {"switch": ("slow",)}
        assert set(standing(switch, found("slow", 0.9))) == {"switch", "slow"}

    def test_two_findings_of_one_rule_are_named_once(self):
        judged = [found("cause", explains=["twin"]), found("twin", 0.3), found("twin", 0.2)]

        assert standing(*judged) == {"cause": ("twin",)}

    @given(
        st.lists(
            st.tuples(st.floats(0, 1), st.sets(st.integers(0, 5)), st.sampled_from(SEVERITIES)),
            max_size=6,
        )
    )
    def test_no_finding_is_lost_in_any_graph(self, nodes):
        judged = [
            found(str(place), share, sorted(map(str, explained - {place})), severity)
            for place, (share, explained, severity) in enumerate(nodes)
        ]

        named = standing(*judged)

        hidden = [rule for rules in named.values() for rule in rules]
        assert sorted([*named, *hidden]) == sorted(str(place) for place in range(len(nodes)))
        gravest = max((SEVERITIES.index(s) for _, _, s in nodes), default=0)
        shown = [SEVERITIES.index(nodes[int(rule)][2]) for rule in named]
        assert not nodes or max(shown) == gravest


class TestVerdict:
    def of(self, *rules, steps=100, steady=95, given=None):
        return pronounce(evaluate(rules, given or signals(steady)), steps, steady)

    def test_bottleneck_in_the_words_of_the_gravest(self):
        slow = rule("a-slow", [Candidate("Slow it is.", SEEN, share=0.15, gain=Gain(3, 4))])
        worse = rule("b-worse", [Candidate("Worse it is.", SEEN, share=0.5, gain=Gain(2, 3))])

        verdict = self.of(slow, worse)

        assert (verdict.word, verdict.headline) == ("bottleneck", "Worse it is.")

    def test_a_lost_run_has_the_first_word(self):
        slow = rule("a-slow", [Candidate("Slow it is.", SEEN, share=0.5, gain=Gain(2, 3))])
        lost = rule("b-lost", [Candidate("It is lost.", SEEN, severity="critical", timeless=True)])

        assert self.of(slow, lost).headline == "It is lost."

    def test_healthy(self):
        assert self.of(rule()).headline == "Healthy: nothing worth changing."
        noted = self.of(rule(candidates=[candidate(0.05)]))
        assert noted.word == "healthy"
        assert "one small finding" in noted.headline

    @pytest.mark.parametrize(
        ("steps", "steady", "sentence"),
        [
            (12, 7, "only 7 steady steps were recorded; 20 are needed."),
            (6, 1, "only one steady step was recorded; 20 are needed."),
            (4, 0, "only 4 steps were recorded, which is warm-up; 20 after it are needed."),
            (1, 0, "only one step was recorded, which is warm-up; 20 after it are needed."),
        ],
    )
    def test_insufficient_steps(self, steps, steady, sentence):
        verdict = self.of(rule(candidates=[candidate()]), steps=steps, steady=steady)

        assert verdict.word == "insufficient"
        assert verdict.headline == f"Not enough evidence, because {sentence}"

    def test_silence_of_few_steps_is_not_health(self):
        assert self.of(rule(), steps=12, steady=7).word == "insufficient"

    def test_a_debug_switch_needs_no_steps(self):
        switch = rule(candidates=[candidate(None, severity="warn", timeless=True)])

        assert self.of(switch, steps=1, steady=0).word == "bottleneck"

    def test_a_lost_collector_is_not_health(self):
        given = Signals({"gc.share": Signal(None, reason="its collector failed (x)", lost=True)})

        verdict = self.of(rule("loop-gc", needs=("gc.share",)), given=given)

        assert verdict.word == "insufficient"
        assert "loop-gc could not be judged: its collector failed (x)" in verdict.headline

    def test_a_bottleneck_stands_beside_a_lost_collector(self):
        values = {"gc.share": Signal(None, reason="lost", lost=True)}
        given = Signals({**signals().values, **values})

        verdict = self.of(
            rule("loop-gc", needs=("gc.share",)), rule(candidates=[candidate()]), given=given
        )

        assert verdict.word == "bottleneck"


class TestRegistry:
    def test_all_rules_by_id(self):
        ids = [rule.id for rule in chosen_rules()]

        assert ids == sorted(rule.id for rule in catalogue())
        assert len(ids) == len(set(ids))

    def test_select_and_ignore(self):
        first, second, *_ = [rule.id for rule in chosen_rules()]

        assert [rule.id for rule in chosen_rules([first, second], [second])] == [first]
        assert second not in [rule.id for rule in chosen_rules(ignore=[second])]

    @pytest.mark.parametrize(("select", "ignore"), [(["data-unheard"], []), ([], ["data-unheard"])])
    def test_a_rule_that_does_not_exist(self, select, ignore):
        with pytest.raises(UsageError, match="there is no rule data-unheard; `trainprof rules`"):
            chosen_rules(select, ignore)


def test_judge_tells_what_it_held_back():
    finding, reason = judge(rule(), candidate(), signals(7))

    assert finding.severity == "info"
    assert reason == "only 7 steady steps were recorded; 20 are needed"
