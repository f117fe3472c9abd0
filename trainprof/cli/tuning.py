"""What `trainprof tune` does, step by step: baseline, candidates, experiments, files."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from trainprof.cli.judgement import judge
from trainprof.cli.network_loggers import network_writes
from trainprof.cli.plan_sources import script_of_run, torch_of_run, with_proof, with_sources
from trainprof.cli.settings import load_settings
from trainprof.cli.trial_places import trial_place
from trainprof.errors import MissingExtraError, RunFolderError, UsageError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.plan import Plan, plan_to_json
from trainprof.profiler.model.tuning import TuneResult
from trainprof.profiler.samplers.hardware import read_hardware
from trainprof.profiler.store.layout import DIAGNOSIS_FILE
from trainprof.profiler.store.secrets import mask_secrets
from trainprof.reports.json_report import JsonReport
from trainprof.reports.source import short_path
from trainprof.rules.calibration import add_cases, calibration_path
from trainprof.rules.experiments.asked import asked_candidates
from trainprof.rules.experiments.candidates import Candidate, Refused, candidates_of, measured
from trainprof.rules.experiments.experiment import Experiment
from trainprof.rules.experiments.machine import machine_class
from trainprof.rules.experiments.outcome import Outcome
from trainprof.rules.experiments.preflight import look_at_machine
from trainprof.rules.experiments.progress_file import ProgressFile
from trainprof.rules.experiments.result import cases_of, dry_result, plan_of, proof_of, result_of
from trainprof.rules.experiments.runner import ProcessRunner, how_it_ended
from trainprof.rules.experiments.trial import Trial
from trainprof.rules.experiments.trial_journal import About, Journal, Options, ResumedRunner
from trainprof.rules.experiments.trial_length import TrialLength, trial_length
from trainprof.rules.experiments.tune import EQUAL_PAIRS, BaselineFailed, Tune
from trainprof.rules.experiments.watching import Progress
from trainprof.rules.fixes.registry import fix_named
from trainprof.rules.source_edits.written import digest
from trainprof.rules.statistics.pairs import LOOKS

if TYPE_CHECKING:
    from trainprof.rules.experiments.knob_search import KnobSearch

BASELINE_STEPS = 400
"""Of the run that is diagnosed; a shorter script runs to its end."""

Say = Callable[[str], None]


def watch_command(folder: Path) -> str:
    """What to type to watch a tune."""
    return f"trainprof top {shlex.quote(short_path(str(folder)))}"


class Tuning:
    """One tune of one command.

    Args:
        command: As typed. folder: For all records. options: What is asked for.
        budget_s: For all of it. unguarded: Trials may write where they like. say: Tells progress.
        earlier: Trials of a tune that was ended, which this one goes on with; None: it is new.
        calibration: Whether predictions are held against what earlier tunes measured, and kept.

    Attributes:
        progress: Is written for whoever watches.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        options: Options,
        budget_s: float,
        unguarded: bool,
        say: Say,
        earlier: Sequence[tuple[str, Trial]] | None = None,
        calibration: bool = True,
    ) -> None:
        self._command = tuple(command)
        self._folder = folder.resolve()
        self._options = options
        self._say = say
        self._started_s = time.monotonic()
        self._budget_s = budget_s
        self._preflight: dict[str, object] = {}
        self._earlier = earlier
        self._baseline_s = 0.0
        settings = load_settings()
        self._settings = settings if calibration else replace(settings, calibration=False)
        scripts = [Path(word).parent for word in self._command if word.endswith(".py")]
        folders = sorted({str(Path.cwd()), *(str(path.resolve()) for path in scripts)})
        servers = [] if unguarded else network_writes(self._command)
        if servers:
            raise UsageError(
                f"the script writes to a server ({', '.join(servers)}), and trials would too; "
                "--yes lets them."
            )
        self._place = trial_place(
            options.engine, self._folder, folders, unguarded=unguarded, say=self._say
        )
        self._workplace = self._place.workplace
        self.progress = ProgressFile(self._folder)
        self.progress.begin(mask_secrets(self._command), budget_s)

    def _left_s(self) -> float:
        return max(self._budget_s - (time.monotonic() - self._started_s), 0.0)

    def close(self) -> None:
        """Removes what trials have left behind outside of the records."""
        self._workplace.close()

    def diagnose(self) -> Diagnosis:
        """Runs the script unchanged and says where its time goes.

        Raises:
            UsageError: it does not train, or it fails.
        """
        self._say(f"`{watch_command(self._folder)}` in another terminal shows the trials")
        if self._earlier is not None:
            self._say(f"going on with {len(self._earlier)} trials of {self._folder}")
            return self._diagnosis(self._folder / "baseline" / "run")
        self._say("running the script unchanged, to see where its time goes")
        return self._diagnose_run("baseline", ())

    def _again(self, plan: Plan) -> list[Candidate]:
        """What is worth a try on top of a plan: the diagnosis of a run under it."""
        self._say("running the script with what is kept, to see where its time goes now")
        out = self._folder / "kept.json"
        out.write_text(plan_to_json(plan), encoding="utf-8")
        try:
            diagnosis = self._diagnose_run("second", ("--plan", str(out)))
        except UsageError as error:
            self._say(f"no second round: {error}")
            return []
        applied = [(one.fix, one.target) for one in plan.applications]
        candidates, _ = self._candidates(diagnosis)
        return [
            one
            for one in candidates
            if (one.application.fix, one.application.target) not in applied
        ]

    def _diagnose_run(self, name: str, more: Sequence[str]) -> Diagnosis:
        out = self._folder / name
        shutil.rmtree(out, ignore_errors=True)  # of a tune that was interrupted here
        out.mkdir()
        options = ["--out", str(out / "run"), "--steps", str(BASELINE_STEPS), "--quiet", *more]
        command = [sys.executable, "-m", "trainprof", "run", *options, "--", *self._command]
        output = out / "output.txt"
        purpose = "kept" if more else "baseline"
        self.progress.starts_diagnosed(purpose, out / "run", BASELINE_STEPS)
        started_s = time.monotonic()
        status = self._workplace.run(command, name, output, self._left_s())
        if status and self._workplace.falls_back(output):
            self._say("it writes what an overlay cannot take; once more, with copies of its files")
            shutil.rmtree(out / "run", ignore_errors=True)
            status = self._workplace.run(command, name, output, self._left_s())
        if status is None:
            raise UsageError(
                f"the unchanged script does not end within {self._budget_s:.0f} s; give it more "
                "time with --budget, or less to do by its own options."
            )
        if status:
            raise UsageError(
                f"the script fails unchanged ({how_it_ended(status, output)}); its output is in "
                f"{output}."
            )
        self._baseline_s = time.monotonic() - started_s
        return self._diagnosis(out / "run")

    def _diagnosis(self, run: Path) -> Diagnosis:
        try:
            diagnosis = judge(run, self._settings)
        except RunFolderError as error:
            raise UsageError(f"the unchanged run left no records: {error}") from None
        # Whoever watches reads it: to diagnose the run once more would disturb a trial.
        self._record(str(run / DIAGNOSIS_FILE), JsonReport().render(diagnosis))
        if diagnosis.steps is None or not diagnosis.steps.mean_s:
            raise UsageError(f"nothing can be tuned: {diagnosis.headline}")
        return diagnosis

    def experiment(self, diagnosis: Diagnosis) -> TuneResult:
        """Tries what the diagnosis advises; also gives what is known when it is interrupted."""
        candidates, refused = self._candidates(diagnosis)
        search = self._knob_search(candidates)
        largest = [search.largest(one) for one in candidates] if search is not None else []
        length = self._length(diagnosis, candidates, largest)
        if candidates and self._place.is_here:
            self._look_at_machine(diagnosis)
        runner = ProcessRunner(
            self._command,
            self._folder,
            self._workplace,
            length.warm_up,
            needed_bytes=self._needed_bytes(diagnosis),
            longest_s=self._longest_s(),
            starts=self.progress.starts,
        )
        self.progress.plan(length.steps, refused)
        journal = Journal(self._folder)
        if candidates and self._earlier is None:
            journal.begin(self._about(candidates))
        tune = Tune(
            ResumedRunner(runner, journal, self._earlier or ()),
            candidates,
            refused,
            steps=length.steps,
            budget_s=self._left_s(),
            clock=time.monotonic,
            tell=self._tell,
            watch=self.progress,
            memory_bytes=self._place.memory_bytes,
            run_steps=self._steps_of_training(diagnosis),
            again=None if self._options.asked else self._again,
            choose=search,
            short_steps=length.warm_up + (length.steps - length.warm_up) // 2,
        )
        if not candidates:
            return self._written(tune.outcome(), length.steps, ended="complete")
        try:
            outcome = tune.run()
        except KeyboardInterrupt:
            outcome = tune.outcome()
        except OSError as error:
            self._say(f"no more trials: {error.filename or 'a file'} failed ({error.strerror})")
            outcome = tune.outcome()
        except BaselineFailed as error:
            problem = f"the script fails when it is cut to {length.steps} steps: {error}"
            raise UsageError(problem) from None
        try:
            return self._written(outcome, length.steps)
        except KeyboardInterrupt:  # there is only one
            return self._written(outcome, length.steps)

    def _longest_s(self) -> float:
        """Seconds that the script took at most, in trials before an interrupt too."""
        earlier = (trial.took_s or 0.0 for _, trial in self._earlier or ())
        return max(self._baseline_s, *earlier, 0.0)

    def _about(self, candidates: Sequence[Candidate]) -> About:
        """What the trials hold for."""
        plan = self._with_sources(Plan(tuple(one.application for one in candidates)))
        masked = tuple(mask_secrets(self._command))
        return About(
            masked,
            masked != self._command,
            str(Path.cwd()),
            self._options,
            plan.sources,
            machine_class(read_hardware()),
        )

    def _with_sources(self, plan: Plan) -> Plan:
        baseline = self._folder / "baseline" / "run"
        return with_sources(plan, script_of_run(baseline, self._command, str(Path.cwd())))

    def _look_at_machine(self, diagnosis: Diagnosis) -> None:
        needed = self._needed_bytes(diagnosis)
        found = look_at_machine(self._left_s(), needed, self._say)
        for remark in found.remarks:
            self._say(remark)
        self._preflight = asdict(found)

    def _needed_bytes(self, diagnosis: Diagnosis) -> int | None:
        """The most memory that the unchanged script held."""
        held = measured(diagnosis, "host.own_rss_bytes")
        return int(held) if isinstance(held, float) else None

    def dry_run(self, diagnosis: Diagnosis) -> TuneResult:
        """What would be tried, and how long that takes at least."""
        candidates, refused = self._candidates(diagnosis)
        steps = self._length(diagnosis, candidates, []).steps
        assert diagnosis.steps is not None
        assert diagnosis.steps.mean_s is not None
        trials = 2 * (EQUAL_PAIRS + LOOKS[0] * len(candidates)) if candidates else 0
        each_s = steps * diagnosis.steps.mean_s
        self.progress.plan(steps, refused)
        for candidate in candidates:
            self.progress.attempt(Experiment(candidate.application.fix, (candidate,)))
        self.progress.end("dry run")
        return dry_result(
            candidates,
            refused,
            run=str(self._folder / "baseline" / "run"),
            steps=steps,
            seconds=trials * each_s,
        )

    def _candidates(self, diagnosis: Diagnosis) -> tuple[list[Candidate], list[Refused]]:
        """What was asked for, else what is advised."""
        if self._options.asked:
            return asked_candidates(diagnosis, self._options.asked), []
        return candidates_of(diagnosis, self._options.allow)

    def _steps_of_training(self, diagnosis: Diagnosis) -> int | None:
        """As told, or as seen where the unchanged script came to its end."""
        if self._options.run_steps is not None or diagnosis.steps is None:
            return self._options.run_steps
        count = diagnosis.steps.count
        return count if count < BASELINE_STEPS else None

    def _knob_search(self, candidates: Sequence[Candidate]) -> KnobSearch | None:
        """What looks for better values than the advised ones; None where there is nothing to."""
        try:
            from trainprof.rules.experiments.knob_search import KnobSearch
        except MissingExtraError as error:
            if any(fix_named(one.application.fix).searched for one in candidates):
                self._say(str(error))
            return None
        search = KnobSearch(self._place.cpus, time.monotonic)
        return search if any(search.space(one) for one in candidates) else None

    def _length(
        self,
        diagnosis: Diagnosis,
        candidates: Sequence[Candidate],
        settings: Sequence[Mapping[str, Any]],
    ) -> TrialLength:
        whole = diagnosis.steps is not None and diagnosis.steps.count < BASELINE_STEPS
        asked = self._options.steps
        return trial_length(diagnosis, candidates, settings, whole=whole, asked=asked)

    def _tell(self, progress: Progress) -> None:
        self.progress.tell(progress)
        ratio = progress.ratio
        so_far = ""
        if ratio is not None and ratio.low is not None and ratio.high is not None:
            so_far = f", so far {ratio.point:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
        self._say(
            f"{progress.candidate}: pair {progress.pair} of at most {progress.pairs_at_most}"
            f"{so_far}; {progress.left_s:.0f} s left"
        )

    def _written(self, outcome: Outcome, steps: int, ended: str | None = None) -> TuneResult:
        plan = plan_of(outcome)
        path = None
        patch: str | None = None
        by_hand: tuple[str, ...] = ()
        if plan is not None:
            torch = torch_of_run(self._folder / "baseline" / "run")
            plan = with_proof(self._with_sources(plan), torch, proof_of(outcome))
            path = self._record("plan.json", plan_to_json(plan))
            patch, by_hand = self._patch(plan)
        result = result_of(
            outcome,
            run=str(self._folder / "baseline" / "run"),
            plan=str(path) if path else None,
            patch=patch,
            by_hand=by_hand,
            preflight=self._preflight,
            steps=steps,
            seconds=time.monotonic() - self._started_s,
            ended=ended or outcome.ended,
        )
        self._remember(outcome)
        self._record("tune.json", json.dumps(asdict(result), indent=1))
        self.progress.end(result.ended)
        return result

    def _record(self, name: str, text: str) -> Path | None:
        """Writes a record; says so where the disk is full, and what is known is printed anyway."""
        path = self._folder / name
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            self._say(f"{path} cannot be written ({error.strerror})")
            return None
        return path

    def _remember(self, outcome: Outcome) -> None:
        """Holds what was predicted against what was measured, for later predictions."""
        if not self._settings.calibration:
            return
        machine = machine_class(read_hardware())
        tune = digest(str(self._folder).encode())  # tells tunes apart, and no names of projects
        cases = cases_of(outcome, machine, tune, time.time())
        try:
            add_cases(calibration_path(), cases)
        except OSError as error:
            self._say(f"{calibration_path()} cannot be written ({error.strerror})")

    def _patch(self, plan: Plan) -> tuple[str | None, tuple[str, ...]]:
        """What is kept as a patch of the source, and what of it needs a person."""
        try:
            from trainprof.cli.fixing import patch_text
        except MissingExtraError as error:
            return None, (str(error),)
        return patch_text(plan, self._command)
