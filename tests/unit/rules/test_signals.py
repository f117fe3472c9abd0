"""Signals of built runs: the value that was planted, or missing with the reason."""

from dataclasses import replace

import numpy as np
import pytest
from builders import (
    MS,
    PROCESS_NS,
    SECOND,
    START_NS,
    build_fetches,
    build_run,
    build_samples,
    build_steps,
    build_trainer,
    build_worker,
)

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.facts import FlagsFact
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import (
    COMPILED,
    EPOCH_BOUNDARY,
    LAST,
    NO_LOADER,
    Event,
    Fetch,
    LossValue,
    MemoryPoint,
    ProcessSample,
    QueueDepth,
)
from trainprof.profiler.model.run import PhaseStates, Session
from trainprof.rules.signals.host import own_cores
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.steps import phase_states
from trainprof.rules.signals.topics import TOPICS, measure
from trainprof.rules.signals.training import Training
from trainprof.rules.signals.write_page import PAGE, page

PLAIN = {"data_wait": 2.0, "forward": 3.0, "backward": 4.0, "optimizer": 1.0}
WHERE = {"file": "train.py", "line": 7, "function": "main"}
PLACE = Location("train.py", 7, "main")
LOADER = {"role": "training", "num_workers": 2, "prefetch_factor": 2, "batches": 10}


def training_of(trainer, **run):
    built = build_run(trainer, **run)
    return Training(built, built.sessions[0])


def signals_of(trainer, **run):
    return measure(training_of(trainer, **run))


def value(signals, name):
    return signals.get(name).value


def steps(count=100, phases=PLAIN, **shape):
    return build_steps(count, phases, **shape)


class TestSheet:
    def test_refuses_a_signal_that_no_page_describes(self):
        with pytest.raises(KeyError, match=r"gc\.colour"):
            Sheet([Description("gc.share", "share", "")]).put("gc.colour", 1)

    @pytest.mark.parametrize("wrong", [None, float("nan"), float("inf")])
    def test_a_value_that_is_none_is_missing_with_its_reason(self, wrong):
        sheet = Sheet([Description("gc.share", "share", "")])
        sheet.put("gc.share", wrong, reason="the clock stood still")

        signal = sheet.finish("")["gc.share"]

        assert (signal.value, signal.reason, signal.unit) == (
            None,
            "the clock stood still",
            "share",
        )

    def test_what_nobody_put_is_missing(self):
        assert Sheet([Description("a.b", "s", "")]).finish("no time")["a.b"].reason == "no time"


class TestEverySignal:
    def test_names_are_described_once(self):
        names = [one.name for topic in TOPICS for one in topic.DESCRIPTIONS]

        assert len(names) == len(set(names))
        assert all(one.text.endswith(".") for topic in TOPICS for one in topic.DESCRIPTIONS)

    @pytest.mark.parametrize("count", [0, 1, 3, 30])
    def test_is_there_or_missing_with_a_reason(self, count):
        signals = signals_of(build_trainer(steps(count)))

        described = {one.name for topic in TOPICS for one in topic.DESCRIPTIONS}
        assert set(signals.values) == {name for name in described if "<" not in name}
        for name, signal in signals.values.items():
            assert signal.value is not None or signal.reason, name

    def test_the_page_in_docs_is_the_one_the_topics_give(self):
        assert PAGE.read_text(encoding="utf-8") == page(), (
            "run python -m trainprof.rules.signals.write_page"
        )

    def test_every_flag_of_the_agent_is_a_signal(self):
        signals = signals_of(build_trainer(steps()))

        assert {f"flags.{key}" for key in FlagsFact.__annotations__} <= set(signals.values)


class TestSteps:
    def test_phases_are_shares_of_the_window(self):
        signals = signals_of(build_trainer(steps(100)))

        assert value(signals, "step.mean_s") == pytest.approx(0.010)
        assert value(signals, "step.steady_count") == 95
        assert value(signals, "step.forward_share") == pytest.approx(0.3)
        assert value(signals, "step.forward_s") == pytest.approx(0.003)
        shares = [value(signals, f"step.{phase}_share") for phase in PHASES]
        assert sum(shares) == pytest.approx(1.0)
        assert value(signals, "step.samples_per_s") == pytest.approx(3_200)

    def test_the_mean_counts_rare_dear_steps(self):
        def phases(index):
            return PLAIN | ({"checkpoint": 190.0} if index % 20 == 10 else {})

        signals = signals_of(build_trainer(steps(405, phases)))

        assert value(signals, "step.mean_s") == pytest.approx(0.010 + 0.190 / 20, rel=0.01)
        share = signals.get("step.checkpoint_share")
        assert share.low < share.value < share.high
        assert share.value == pytest.approx(9.5 / 19.5, rel=0.01)

    def test_warm_up_does_not_count(self):
        def phases(index):
            return {"compile": 900.0} if index < 8 else PLAIN

        def flags(index):
            return COMPILED if index < 8 else 0

        signals = signals_of(build_trainer(steps(100, phases, flags=flags)))

        assert value(signals, "step.warm_up_count") == 8
        assert value(signals, "step.max_s") == pytest.approx(0.010)
        assert value(signals, "step.compile_share") == 0.0

    def test_a_step_that_the_end_cut_off_does_not_count(self):
        def phases(index):
            return {"residual": 5_000.0} if index == 99 else PLAIN

        def flags(index):
            return LAST if index == 99 else 0

        signals = signals_of(build_trainer(steps(100, phases, flags=flags)))

        assert value(signals, "step.count") == 100
        assert value(signals, "step.max_s") == pytest.approx(0.010)

    def test_without_a_loader_waiting_is_not_zero_but_missing(self):
        signals = signals_of(build_trainer(steps(50, {"forward": 10.0}, flags=NO_LOADER)))

        assert signals.get("step.data_wait_share").reason == "no DataLoader was iterated"
        assert value(signals, "step.forward_share") == 1.0

    def test_a_failed_collector_leaves_its_phase_missing_and_lost(self):
        failure = Event("collector_failed", 0, 0, {"collector": "hooks_gc", "error": "KeyError: 1"})

        signals = signals_of(build_trainer(steps(), events=[failure]))

        for name in ("step.gc_share", "gc.share", "gc.pauses"):
            assert signals.get(name).lost, name
            assert "KeyError: 1" in signals.get(name).reason
        assert not signals.get("step.data_wait_share").lost

    def test_what_other_failed_collectors_leave_out_is_lost(self):
        failures = [
            Event("collector_failed", 0, 0, {"collector": name, "error": "KeyError: 1"})
            for name in ("graphs", "flags")
        ]
        stopped = CollectorStatus("samples", "failed", "host.jsonl could not be written")

        signals = signals_of(
            build_trainer(
                steps(), events=failures, facts=[("flags", "start", {"gc_enabled": False})]
            ),
            collectors=(stopped,),
        )

        assert signals.get("memory.graph_alive_count").lost
        assert signals.get("flags.num_threads").lost
        assert value(signals, "flags.gc_enabled") is False
        assert signals.get("host.own_cores").lost
        assert "could not be written" in signals.get("host.own_cores").reason
        assert value(signals, "host.usable_cores") == 4.0

    def test_what_the_thread_did(self):
        signals = signals_of(build_trainer(steps(200, cpu_share=0.6, run_queue_share=0.3)))

        assert value(signals, "step.cpu_share") == pytest.approx(0.6, abs=1e-6)
        assert value(signals, "step.run_queue_share") == pytest.approx(0.3, abs=1e-6)
        assert value(signals, "step.blocked_share") == pytest.approx(0.1, abs=1e-6)

    def test_readings_weigh_with_the_time_they_cover(self):
        """One reading over 16 short steps, the next over 16 long ones: time decides, not count."""

        def phases(index):
            return {"forward": 1.0 if index // 16 % 2 else 9.0}

        trainer = build_trainer(steps(16 * 40, phases, cpu_share=0.5))

        assert value(signals_of(trainer), "step.cpu_share") == pytest.approx(0.5, abs=1e-6)

    def test_without_scheduler_statistics_only_the_cpu_is_known(self):
        signals = signals_of(build_trainer(steps(200, cpu_share=0.6)))

        assert value(signals, "step.cpu_share") == pytest.approx(0.6, abs=1e-6)
        assert "schedstat" in signals.get("step.run_queue_share").reason

    def test_states_of_phases_come_from_the_steps_that_carry_them(self):
        def state(step, data_wait_cpu_ms, forward_cpu_ms):
            cpu, queue = [0] * len(PHASES), [0] * len(PHASES)
            cpu[PHASES.index("data_wait")] = round(data_wait_cpu_ms * MS)
            cpu[PHASES.index("forward")] = round(forward_cpu_ms * MS)
            queue[PHASES.index("forward")] = round(0.3 * MS)
            return PhaseStates(step, tuple(cpu), tuple(queue))

        states = [state(2, 9.0, 9.0), state(16, 0.5, 2.4), state(32, 0.5, 2.4), state(999, 9, 9)]

        shares = phase_states(training_of(build_trainer(steps(100), states=states)))

        assert shares["data_wait"] == pytest.approx((0.25, 0.0))
        assert shares["forward"] == pytest.approx((0.8, 0.1))
        assert "validation" not in shares

    def test_inferred_phases_are_marked(self):
        inferred = 1 << PHASES.index("loss")

        signals = signals_of(build_trainer(steps(30, inferred=inferred)))

        assert value(signals, "step.loss_inferred") is True
        assert value(signals, "step.forward_inferred") is False

    def test_samples_that_no_batch_shows_are_missing(self):
        signals = signals_of(build_trainer(steps(30, samples=None)))

        assert signals.get("run.samples_per_s").reason == signals.get("step.samples").reason
        assert "samples" in signals.get("step.samples").reason

    def test_throughput_is_that_of_all_ranks(self):
        ranks = [build_trainer(steps(60), rank=n, world_size=2, pid=100 + n) for n in range(2)]

        signals = signals_of(Session(tuple(ranks)))

        assert value(signals, "step.samples_per_s") == pytest.approx(3_200)
        assert value(signals, "run.samples_per_s") == pytest.approx(6_400)


def loader_fact(**values):
    return ("loader", "l0", LOADER | values)


def test_a_number_of_numpy_s_becomes_one_of_python_s():
    sheet = Sheet((Description("step.count", "count", "Steps."),))
    sheet.put("step.count", np.float64(3.0))
    assert type(sheet.value("step.count")) is float


class TestLoader:
    def test_without_workers_the_wait_is_the_producer(self):
        cpu = [0] * len(PHASES)
        cpu[0] = MS
        states = [PhaseStates(step, tuple(cpu), None) for step in (16, 32)]
        trainer = build_trainer(
            steps(60, micro_batches=2), facts=[loader_fact(num_workers=0)], states=states
        )

        signals = signals_of(trainer)

        assert value(signals, "loader.wait_s") == pytest.approx(0.001)
        assert value(signals, "loader.producer_wall_s") == pytest.approx(0.001)
        assert value(signals, "loader.producer_cpu_s") == pytest.approx(0.0005)
        assert value(signals, "loader.consumer_s") == pytest.approx(0.004)
        assert "no workers" in signals.get("loader.ready_mean").reason

    def test_a_preempted_wait_costs_no_more_cpu_than_others(self):
        """A few waits last 50 times as long; the readings fell on usual ones."""
        cpu = [0] * len(PHASES)
        cpu[0] = MS
        states = [PhaseStates(step, tuple(cpu), (0,) * len(PHASES)) for step in (16, 32, 48)]

        def preempted(index):
            return PLAIN | {"data_wait": 50.0 if index % 10 == 5 else 1.0}

        trainer = build_trainer(
            steps(60, preempted), facts=[loader_fact(num_workers=0)], states=states
        )

        signals = signals_of(trainer)

        assert value(signals, "loader.producer_wall_s") > 0.004
        assert value(signals, "loader.producer_cpu_s") == pytest.approx(0.001)
        assert value(signals, "loader.producer_median_s") == pytest.approx(0.001)
        assert value(signals, "loader.producer_p99_s") == pytest.approx(0.050)

    def test_long_computations_that_the_readings_missed_count_by_what_the_thread_used(self):
        usual = PLAIN | {"data_wait": 1.0}
        cpu = tuple(round(usual.get(phase, 0.0) * MS) for phase in PHASES)
        states = [PhaseStates(step, cpu, (0,) * len(PHASES)) for step in (16, 32, 48)]

        def uneven(index):
            return usual | {"data_wait": 50.0 if index % 10 == 5 else 1.0}

        trainer = build_trainer(
            steps(60, uneven, cpu_share=1.0), facts=[loader_fact(num_workers=0)], states=states
        )

        signals = signals_of(trainer)

        wall_s = value(signals, "loader.producer_wall_s")
        assert value(signals, "loader.producer_cpu_s") == pytest.approx(wall_s, rel=0.15)
        assert value(signals, "loader.producer_tail_part") == pytest.approx(0.8, abs=0.05)

    def test_workers_that_queue_for_a_cpu(self):
        workers = [build_worker(build_fetches(40, 20.0, 5.0), pid=200)]
        samples = [
            replace(
                sample,
                processes=(
                    *sample.processes,
                    ProcessSample(
                        pid=200,
                        parent_pid=100,
                        name="python",
                        cpu_total_s=0.1 * second,
                        rss_bytes=1,
                        threads=1,
                        status="running",
                        run_delay_total_ns=second * SECOND // 5,
                    ),
                ),
            )
            for second, sample in enumerate(build_samples(3))
        ]

        trainer = build_trainer(steps(300), facts=[loader_fact()])
        signals = signals_of(trainer, workers=workers, samples=samples)

        assert value(signals, "loader.producer_queued_s") == pytest.approx(0.010)

    def test_workers_say_what_a_batch_takes(self):
        workers = [
            build_worker(build_fetches(40, 20.0, 5.0, worker=n), pid=200 + n) for n in range(2)
        ]

        signals = signals_of(build_trainer(steps(60), facts=[loader_fact()]), workers=workers)

        assert value(signals, "loader.producer_wall_s") == pytest.approx(0.020)
        assert value(signals, "loader.producer_cpu_s") == pytest.approx(0.005)
        assert value(signals, "loader.worker_count_seen") == 2

    def test_workers_of_another_loader_do_not_count(self):
        """A worker belongs to the iterator that was begun last before it."""
        events = [
            Event("loader_start", START_NS, 9 * MS, {"loader": "l0", "workers": 1}),
            Event("loader_start", START_NS + 200 * MS, 9 * MS, {"loader": "l1", "workers": 1}),
        ]
        workers = [
            build_worker(build_fetches(20, 20.0), started_ns=START_NS + MS),
            build_worker(
                build_fetches(20, 99.0, start_ns=START_NS + 210 * MS),
                pid=201,
                started_ns=START_NS + 201 * MS,
            ),
        ]
        trainer = build_trainer(steps(300), facts=[loader_fact()], events=events)

        assert value(signals_of(trainer, workers=workers), "loader.producer_wall_s") == 0.020

    def test_silent_workers_are_missing_not_zero(self):
        signals = signals_of(build_trainer(steps(60), facts=[loader_fact()]))

        assert "no worker" in signals.get("loader.producer_wall_s").reason

    def test_the_loader_asked_most_is_the_training_loader(self):
        queue = [QueueDepth(step, "l1", MS, 2) for step in range(50)]
        queue += [QueueDepth(step, "l0", MS, 0) for step in range(10)]
        facts = [
            loader_fact(where=WHERE | {"line": 1}),
            ("loader", "l1", LOADER | {"where": WHERE}),
            ("loader", "l2", {"role": "validation"}),
        ]

        signals = signals_of(build_trainer(steps(60), facts=facts, queue=queue))

        assert value(signals, "loader.key") == "l1"
        assert value(signals, "loader.where") == PLACE
        assert value(signals, "loader.ready_mean") == 2.0
        assert value(signals, "loader.starved_share") == 0.0

    def test_asks_that_found_nothing(self):
        queue = [QueueDepth(step, "l0", MS, step % 4) for step in range(100)]

        signals = signals_of(build_trainer(steps(100), facts=[loader_fact()], queue=queue))

        starved = signals.get("loader.starved_share")
        assert starved.value == pytest.approx(0.25, abs=0.01)
        assert starved.low <= starved.value <= starved.high

    def test_starts_of_epochs_beyond_a_usual_wait(self):
        """Ten batches an epoch; each epoch's first takes 32 ms instead of 2."""

        def phases(index):
            return PLAIN | {"data_wait": 32.0 if index % 10 == 0 else 2.0}

        built = steps(200, phases, flags=lambda index: EPOCH_BOUNDARY if index % 10 == 0 else 0)
        starts = [
            Event("loader_start", built.columns["start_ns"][index], 32 * MS, {"loader": "l0"})
            for index in range(0, 200, 10)
        ]
        trainer = build_trainer(built, facts=[loader_fact(iterators_made=20)], events=starts)

        signals = signals_of(trainer)

        assert value(signals, "loader.start_s") == pytest.approx(0.032)
        share = signals.get("loader.start_share")
        assert share.value == pytest.approx(30 / 130, rel=0.05)
        assert share.low <= share.value <= share.high
        assert share.value <= value(signals, "step.data_wait_share")
        assert value(signals, "loader.batches_per_epoch") == 10
        assert value(signals, "loader.epochs") == 20

    def test_one_long_epoch_has_no_start_in_the_window(self):
        start = Event("loader_start", START_NS, 500 * MS, {"loader": "l0"})

        signals = signals_of(build_trainer(steps(100), facts=[loader_fact()], events=[start]))

        assert value(signals, "loader.start_s") == 0.5
        assert value(signals, "loader.start_share") == 0.0

    def test_cpu_of_all_threads_without_the_making_of_batches(self):
        cpu = [0] * len(PHASES)
        cpu[0] = 2 * MS
        states = [PhaseStates(step, tuple(cpu), None) for step in (16, 32)]
        trainer = build_trainer(steps(400), facts=[loader_fact(num_workers=0)], states=states)

        signals = signals_of(trainer, samples=build_samples(5, own_cores=2.0))

        assert value(signals, "loader.consumer_cpu_s") == pytest.approx(0.020 - 0.002)

    def test_no_loader(self):
        signals = signals_of(build_trainer(steps(30, {"forward": 1.0}, flags=NO_LOADER)))

        assert signals.get("loader.num_workers").reason == "no DataLoader was iterated"


class TestReplay:
    def replayed(self, wall_ms, consume_ms=5.0, count=200):
        """Two workers that take turns, batch k taking `wall_ms(k)`."""
        fetches = [
            Fetch(k % 2, START_NS + k * MS, round(wall_ms(k) * MS), MS, 32) for k in range(count)
        ]
        workers = [
            build_worker([one for one in fetches if one.worker == number], pid=200 + number)
            for number in range(2)
        ]
        trainer = build_trainer(
            steps(count, {"data_wait": 1.0, "forward": consume_ms}), facts=[loader_fact()]
        )
        return signals_of(trainer, workers=workers)

    def test_even_batches_that_keep_up_wait_for_handing_over_only(self):
        signals = self.replayed(lambda k: 8.0)

        assert value(signals, "loader.replay_s") == pytest.approx(0.006)
        assert value(signals, "loader.replay_even_s") == pytest.approx(0.006)
        assert value(signals, "loader.supply_ratio") == pytest.approx(1.25, rel=0.05)

    def test_a_slow_batch_costs_what_was_not_made_ahead(self):
        signals = self.replayed(lambda k: 200.0 if k % 50 == 20 else 4.0)

        assert value(signals, "loader.replay_s") > 0.008
        assert value(signals, "loader.replay_even_s") == pytest.approx(0.006)
        deeper = value(signals, "loader.replay_prefetch8_s")
        assert 0.006 < deeper < value(signals, "loader.replay_s")

    def test_unevenness_is_one_for_even_batches_and_more_for_stragglers(self):
        even = value(self.replayed(lambda k: 8.0), "loader.unevenness")
        tail = value(self.replayed(lambda k: 200.0 if k % 50 == 20 else 4.0), "loader.unevenness")

        assert even[2] == pytest.approx(1.0, rel=0.01)
        assert tail[2] > 1.3
        # 32 batches of 5 ms bridge 160 ms of the 200; 40 ms in 50 batches stay.
        assert tail[16] == pytest.approx(1.16, abs=0.05)

    def test_without_workers_the_waits_are_what_would_be_uneven(self):
        def slow_now_and_then(index):
            return PLAIN | {"data_wait": 200.0 if index % 50 == 20 else 4.0}

        trainer = build_trainer(steps(200, slow_now_and_then), facts=[loader_fact(num_workers=0)])

        assert value(signals_of(trainer), "loader.unevenness")[2] > 1.3

    def test_without_workers_there_is_nothing_to_replay(self):
        signals = signals_of(build_trainer(steps(60), facts=[loader_fact(num_workers=0)]))

        assert "no workers" in signals.get("loader.replay_s").reason

    def test_few_batches_show_no_stragglers(self):
        assert "fewer than" in self.replayed(lambda k: 8.0, count=20).get("loader.replay_s").reason


def looks_at(pids, grow, seconds=4):
    """Samples of processes whose fields `grow(second)` gives."""
    return [
        replace(
            sample,
            processes=tuple(
                ProcessSample(
                    **{
                        "pid": pid,
                        "parent_pid": 100,
                        "name": "python",
                        "cpu_total_s": 0.0,
                        "rss_bytes": 1,
                        "threads": 1,
                        "status": "sleeping",
                        **grow(second),
                    }
                )
                for pid in pids
            ),
        )
        for second, sample in enumerate(build_samples(seconds))
    ]


class TestStorage:
    def test_bytes_that_workers_read_and_that_came_from_a_disk(self):
        workers = [build_worker([], pid=200), build_worker([], pid=201)]
        samples = looks_at(
            [200, 201],
            lambda second: {
                "read_calls_total_bytes": second * 50_000_000,
                "read_total_bytes": second * 20_000_000,
                "major_faults_total": second * 10,
                "status": "disk-sleep" if second % 2 else "sleeping",
            },
        )
        trainer = build_trainer(
            steps(300),
            facts=[loader_fact(dataset_paths={"/mnt/team": "nfs4"})],
        )

        signals = signals_of(trainer, workers=workers, samples=samples)

        assert value(signals, "storage.miss_share") == pytest.approx(0.4)
        assert value(signals, "storage.disk_bytes_per_s") == pytest.approx(4e7)
        assert value(signals, "storage.disk_wait_share") == pytest.approx(2 / 3)
        assert value(signals, "storage.major_faults_per_batch") > 0
        assert value(signals, "storage.path") == "/mnt/team"
        assert value(signals, "storage.file_system") == "nfs4"
        assert "one epoch" in signals.get("storage.reread_miss_share").reason

    def test_later_epochs_by_themselves(self):
        """The first epoch fills the cache; from the second on nothing comes from a disk."""
        starts = [
            Event("loader_start", START_NS + second * SECOND, MS, {"loader": "l0", "workers": 0})
            for second in (0, 3)
        ]
        samples = looks_at(
            [100],
            lambda second: {
                "read_calls_total_bytes": second * 50_000_000,
                "read_total_bytes": min(second, 3) * 50_000_000,
            },
            seconds=8,
        )
        trainer = build_trainer(steps(800), facts=[loader_fact(num_workers=0)], events=starts)

        signals = signals_of(trainer, samples=samples)

        assert value(signals, "storage.miss_share") > 0.3
        assert value(signals, "storage.reread_miss_share") == 0.0

    def test_reading_next_to_nothing_is_no_share(self):
        samples = looks_at(
            [100], lambda second: {"read_calls_total_bytes": second, "read_total_bytes": second}
        )
        trainer = build_trainer(steps(300), facts=[loader_fact(num_workers=0)])

        signals = signals_of(trainer, samples=samples)

        assert "hardly anything" in signals.get("storage.miss_share").reason

    def test_no_io_figures_are_missing_not_zero(self):
        trainer = build_trainer(steps(300), facts=[loader_fact(num_workers=0)])

        signals = signals_of(trainer, samples=looks_at([100], lambda second: {}))

        assert "no IO" in signals.get("storage.disk_bytes_per_s").reason

    def test_memory_of_workers_that_lived_on(self):
        workers = [build_worker([], pid=200), build_worker([], pid=201)]
        samples = looks_at(
            [200, 201],
            lambda second: {"pss_bytes": 1_000_000 + second * 100_000 if second else None},
        )
        trainer = build_trainer(steps(400), facts=[loader_fact()])

        signals = signals_of(trainer, workers=workers, samples=samples)

        assert value(signals, "loader.worker_pss_bytes") == 2_600_000
        growth = value(signals, "loader.worker_pss_growth_bytes_per_step")
        assert growth == pytest.approx(2_000, rel=0.02)


class TestModels:
    def test_precision_counts_elements_of_all_trained_models(self):
        facts = [
            ("model", "m0", _model(300, float64=100)),
            ("model", "m1", _model(100, float64=100, where=WHERE)),
            ("model", "m2", _model(10_000, trained=False)),
        ]

        signals = signals_of(build_trainer(steps(), facts=facts))

        assert value(signals, "model.parameter_count") == 400
        assert value(signals, "model.float64_share") == 0.5
        assert value(signals, "model.devices") == {"cpu": 400}
        assert signals.get("model.where").reason

    def test_the_optimizer_with_most_parameters_speaks(self):
        facts = [
            ("optimizer", "o0", {"type": "SGD", "parameter_count": 5, "groups": []}),
            (
                "optimizer",
                "o1",
                {
                    "type": "Adam",
                    "parameter_count": 50,
                    "tensor_count": 4,
                    "implementation": "forloop",
                    "fused_supported": True,
                    "where": WHERE,
                    "groups": [{"momentum": 0.9}],
                },
            ),
        ]

        signals = signals_of(build_trainer(steps(), facts=facts))

        assert value(signals, "optimizer.type") == "Adam"
        assert value(signals, "optimizer.momentum") == 0.9
        assert value(signals, "optimizer.where") == PLACE
        assert len(value(signals, "optimizer.list")) == 2
        assert value(signals, "optimizer.unfused_places") == (PLACE,)

    def test_an_optimizer_that_was_only_tried_does_not_speak(self):
        facts = [
            ("optimizer", "o0", {"type": "Adam", "parameter_count": 50, "groups": []}),
            ("optimizer", "o1", {"type": "SGD", "parameter_count": 5, "groups": []}),
        ]
        seen = {"updates": 515, "updates_o0": 15, "updates_o1": 500}

        signals = signals_of(build_trainer(steps(), facts=facts, seen=seen))

        assert value(signals, "optimizer.type") == "SGD"

    def test_a_batch_in_double_precision(self):
        tensors = [{"dtype": "float64"}, {"dtype": "int64"}]
        facts = [loader_fact(), ("batch", "l0", {"tensors": tensors, "bytes": 80})]

        signals = signals_of(build_trainer(steps(), facts=facts))

        assert value(signals, "batch.float64") is True
        assert value(signals, "batch.bytes") == 80
        assert value(signals, "batch.dtypes") == {"float64": 1, "int64": 1}

    def test_flags_are_the_latest_reading(self):
        facts = [
            ("flags", "start", {"anomaly_enabled": True, "num_threads": 4}),
            ("flags", "steady", {"anomaly_enabled": False, "anomaly_where": WHERE}),
        ]

        signals = signals_of(build_trainer(steps(), facts=facts), environment={"OMP_X": "1"})

        assert value(signals, "flags.anomaly_enabled") is False
        assert value(signals, "flags.anomaly_where") == PLACE
        assert signals.get("flags.accelerator").reason == "no accelerator is in use"
        assert value(signals, "environment.OMP_X") == "1"


def _model(count, float64=0, **values):
    dtypes = {"float32": count - float64, "float64": float64}
    return {
        "parameter_count": count,
        "dtypes": dtypes,
        "devices": {"cpu": count},
        "trained": True,
    } | values


def at_step(index, ms_per_step=10):
    return START_NS + index * ms_per_step * MS


class TestInterruptions:
    def test_collections_that_were_asked_for(self):
        def summary(index):
            data = {"count": [0, 0, 10], "total_ns": [0, 0, 50 * MS], "manual": [0, 0, 10]}
            return Event("gc", at_step(index), 100 * 10 * MS, data | {"where": WHERE})

        pauses = [
            Event("gc", at_step(index), 5 * MS, {"generation": 2, "manual": True, "where": WHERE})
            for index in range(10, 400, 10)
        ]
        phases = {"forward": 9.5, "gc": 0.5}
        events = [summary(0), summary(100), summary(200), summary(300), *pauses]

        signals = signals_of(build_trainer(steps(400, phases), events=events))

        assert value(signals, "gc.share") == pytest.approx(0.05)
        assert value(signals, "gc.manual_per_step") == pytest.approx(0.1, rel=0.01)
        assert value(signals, "gc.generation2_mean_s") == pytest.approx(0.005)
        assert value(signals, "gc.pauses") == 39
        assert value(signals, "gc.longest_s") == pytest.approx(0.005)
        assert value(signals, "gc.where") == PLACE

    def test_collections_before_the_steady_steps_weigh_by_their_overlap(self):
        """A summary from the start of the process to the middle of the window."""
        begin, end = at_step(5) - 900 * MS, at_step(5) + 100 * MS
        data = {"count": [0, 0, 100], "total_ns": [0, 0, 100], "manual": [0, 0, 100]}
        event = Event("gc", begin, end - begin, data)

        signals = signals_of(build_trainer(steps(105), events=[event]))

        assert value(signals, "gc.manual_per_step") == pytest.approx(0.1)

    def test_output_by_channel(self):
        data = {
            "calls": {"print": 50, "tensorboard": 100},
            "total_ns": {"print": 10 * MS, "tensorboard": 400 * MS},
            "where": {"tensorboard": WHERE, "print": WHERE | {"line": 1}},
        }
        event = Event("logging", at_step(50), 1 * SECOND, data)

        signals = signals_of(
            build_trainer(steps(205, {"forward": 8.0, "logging": 2.0}), events=[event])
        )

        assert value(signals, "logging.share") == pytest.approx(0.2)
        assert value(signals, "logging.calls_per_step") == pytest.approx(0.75)
        channels = value(signals, "logging.channels")
        assert channels == pytest.approx({"print": 0.00005, "tensorboard": 0.002})
        assert value(signals, "logging.where") == PLACE

    def test_model_and_optimizer_saved_together_are_one_checkpoint(self):
        saves = [
            Event("checkpoint", at_step(index) + part * MS, MS, {"bytes": 100, "where": WHERE})
            for index in (50, 100, 150)
            for part in (1, 3)
        ]

        signals = signals_of(build_trainer(steps(200), events=saves))

        assert value(signals, "checkpoint.count") == 6
        assert value(signals, "checkpoint.interval_steps") == 50
        assert value(signals, "checkpoint.mean_s") == pytest.approx(0.001)
        assert value(signals, "checkpoint.bytes") == 100
        assert value(signals, "checkpoint.where") == PLACE

    def test_none_is_counted_not_missing(self):
        signals = signals_of(build_trainer(steps()))

        assert value(signals, "checkpoint.count") == 0
        assert value(signals, "logging.calls_per_step") == 0.0
        assert signals.get("checkpoint.mean_s").reason


class TestHost:
    def test_cores_of_ours_and_of_others(self):
        samples = build_samples(5, busy_share=0.75, own_cores=1.0, psi_share=0.1)

        signals = signals_of(build_trainer(steps(500)), samples=samples)

        assert value(signals, "host.usable_cores") == 4.0
        assert value(signals, "host.own_cores") == pytest.approx(1.0)
        assert value(signals, "host.other_cores") == pytest.approx(2.0)
        assert value(signals, "host.idle_cores") == pytest.approx(1.0)
        assert value(signals, "host.psi_cpu_share") == pytest.approx(0.1)
        assert value(signals, "host.process_cpu_per_step_s") == pytest.approx(0.010)
        assert value(signals, "host.contended") is False

    def test_others_fill_unusable_cores_first(self):
        """Two of eight cores may be used; others use five."""
        samples = build_samples(5, busy_share=6 / 8, own_cores=1.0, logical_cores=8)

        signals = signals_of(build_trainer(steps(500)), samples=samples, cores=2)

        assert value(signals, "host.idle_cores") == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("psi", "queue", "own", "contended"),
        [
            (0.3, 0.0, 1.0, True),
            (0.1, 0.2, 1.0, True),
            (0.1, 0.05, 1.0, False),
            (0.3, 0.2, 3.5, False),  # the shortage is of its own making
        ],
    )
    def test_contention(self, psi, queue, own, contended):
        trainer = build_trainer(steps(500, cpu_share=0.5, run_queue_share=queue))
        samples = build_samples(5, busy_share=1.0, own_cores=own, psi_share=psi)

        assert value(signals_of(trainer, samples=samples), "host.contended") is contended

    def test_throttling_and_memory(self):
        samples = build_samples(5, throttled_share=0.5, available_bytes=123)

        signals = signals_of(build_trainer(steps(500)), samples=samples)

        assert value(signals, "host.throttled_share") == pytest.approx(0.5)
        assert value(signals, "host.memory_available_bytes") == 123
        assert value(signals, "host.own_rss_bytes") == 2**29

    def test_too_short_a_run(self):
        signals = signals_of(build_trainer(steps(30)), samples=build_samples(5))

        assert "fewer than twice" in signals.get("host.own_cores").reason

    def test_memory_is_known_of_a_run_of_a_second_too(self):
        samples = build_samples(1, available_bytes=123)

        signals = signals_of(build_trainer(steps(30)), samples=samples)

        assert value(signals, "host.memory_available_bytes") == 123

    def test_workers_that_came_and_went_between_two_looks_are_this_run_s(self):
        """An epoch shorter than a look: its workers used 0.8 cores that nobody saw them use."""
        samples = [
            replace(
                sample,
                processes=tuple(
                    replace(process, children_cpu_total_s=0.8 * second)
                    for process in sample.processes
                ),
            )
            for second, sample in enumerate(build_samples(5, busy_share=0.45, own_cores=1.0))
        ]

        signals = signals_of(build_trainer(steps(500)), samples=samples)

        assert value(signals, "host.own_cores") == pytest.approx(1.8)
        assert value(signals, "host.other_cores") == pytest.approx(0.0, abs=0.01)

    def test_a_worker_that_was_seen_and_ended_counts_once(self):
        def look(second, own_s, children_s, *workers):
            [sample] = build_samples(1, own_cores=0.0)
            trainer = replace(
                sample.processes[0], cpu_total_s=own_s, children_cpu_total_s=children_s
            )
            others = (
                replace(trainer, pid=1000 + place, cpu_total_s=used_s, children_cpu_total_s=0.0)
                for place, used_s in enumerate(workers)
            )
            at_ns = sample.at_ns + second * SECOND
            return replace(sample, at_ns=at_ns, processes=(trainer, *others))

        samples = [look(0, 0.0, 0.0, 0.0), look(1, 0.5, 0.0, 0.4), look(2, 1.0, 0.7)]

        assert own_cores(samples) == pytest.approx((1.0 + 0.7) / 2)

    def test_faults_swap_and_time_halted(self):
        def changed(second, sample):
            machine = replace(
                sample.machine,
                cgroup_throttled_total_us=200_000 * second,
                swap_in_total_bytes=2**20 * second,
            )
            (process,) = sample.processes
            return replace(
                sample,
                machine=machine,
                processes=(replace(process, major_faults_total=50 * second),),
            )

        samples = [changed(n, sample) for n, sample in enumerate(build_samples(5))]

        signals = signals_of(build_trainer(steps(500)), samples=samples)

        assert value(signals, "host.throttled_time_share") == pytest.approx(0.2)
        assert value(signals, "host.major_faults_per_s") == pytest.approx(50)
        assert value(signals, "host.swap_read_bytes_per_s") == pytest.approx(2**20)
        assert signals.get("host.quota_cores").reason == "no CPU quota is set"
        assert value(signals, "host.visible_cores") == 4


class TestCopies:
    def test_time_and_place_of_deep_copies(self):
        """Two copies of 1 ms in each step of 10 ms, counted by the second."""
        data = {"count": 200, "total_ns": 200 * MS, "what": "Net", "where": WHERE}
        events = [Event("deepcopy", START_NS + n * SECOND, SECOND, data) for n in range(5)]

        signals = signals_of(build_trainer(steps(500), events=events))

        assert value(signals, "deepcopy.share") == pytest.approx(0.2, rel=0.01)
        assert value(signals, "deepcopy.per_step") == pytest.approx(2.0, rel=0.01)
        assert value(signals, "deepcopy.mean_s") == pytest.approx(0.001)
        assert value(signals, "deepcopy.where") == PLACE

    def test_none_is_zero(self):
        signals = signals_of(build_trainer(steps()))

        assert value(signals, "deepcopy.share") == 0.0
        assert "no model was copied" in signals.get("deepcopy.mean_s").reason


class TestMemoryAndLoss:
    def test_growth(self):
        rng = np.random.default_rng(4)
        memory = [
            MemoryPoint(
                step, START_NS + step * SECOND, round(1e9 + 5_000 * step + rng.normal(0, 1_000))
            )
            for step in range(0, 600, 10)
        ]
        alive = Event("graph_alive", START_NS, 0, {"where": WHERE})

        signals = signals_of(build_trainer(steps(600), memory=memory, events=[alive, alive]))

        slope = signals.get("memory.rss_slope_bytes_per_step")
        assert slope.low <= 5_000 <= slope.high
        assert slope.value == pytest.approx(5_000, rel=0.01)
        assert value(signals, "memory.growth_monotone") is True
        assert value(signals, "memory.points") == 59
        assert value(signals, "memory.graph_alive_count") == 2
        assert value(signals, "memory.graph_alive_where") == PLACE

    def test_growth_that_ends_is_not_monotone(self):
        memory = [
            MemoryPoint(step, START_NS + step * SECOND, min(10**9 + 5_000 * step, 10**9 + 500_000))
            for step in range(0, 600, 10)
        ]

        signals = signals_of(build_trainer(steps(600), memory=memory))

        assert value(signals, "memory.growth_monotone") is False

    def test_growth_in_the_first_seconds_is_not_judged(self):
        memory = [
            MemoryPoint(step, START_NS + step * SECOND // 75, 10**9 + 5_000 * step)
            for step in range(0, 600, 10)
        ]

        signals = signals_of(build_trainer(steps(600), memory=memory))

        assert "span less than 10 s" in signals.get("memory.growth_monotone").reason

    def test_three_readings_are_too_few(self):
        memory = [MemoryPoint(step, START_NS, 10**9) for step in (10, 20, 30)]

        signals = signals_of(build_trainer(steps(60), memory=memory))

        assert "too few" in signals.get("memory.rss_slope_bytes_per_step").reason
        assert value(signals, "memory.rss_last_bytes") == 10**9

    def test_a_loss_that_is_no_number(self):
        losses = [LossValue(step, float("nan") if step >= 7 else 1.0) for step in range(20)]

        signals = signals_of(build_trainer(steps(20), losses=losses))

        assert value(signals, "loss.finite") is False
        assert value(signals, "loss.first_nonfinite_step") == 7
        assert value(signals, "loss.count") == 20

    def test_the_time_after_the_last_usable_loss(self):
        bad = {3, *range(15, 20)}
        losses = [LossValue(s, float("inf") if s in bad else 1.0) for s in range(20)]

        signals = signals_of(build_trainer(steps(20), losses=losses))

        assert value(signals, "loss.nonfinite_count") == 6
        assert value(signals, "loss.first_nonfinite_step") == 3
        assert value(signals, "loss.dead_count") == 5
        assert value(signals, "loss.dead_since_step") == 15
        assert value(signals, "loss.dead_time_share") == pytest.approx(0.25)

    def test_a_loss_that_stays_one(self):
        losses = [LossValue(step, 1.0) for step in range(20)]

        signals = signals_of(build_trainer(steps(20), losses=losses))

        assert value(signals, "loss.finite") is True
        assert signals.get("loss.first_nonfinite_step").reason == "every loss is finite"
        assert value(signals, "loss.dead_count") == 0
        assert signals.get("loss.dead_since_step").reason == "the last loss is finite"


class TestValidation:
    def test_its_rhythm_and_its_loader(self):
        def phases(index):
            return PLAIN | ({"validation": 50.0} if index % 20 == 10 else {})

        loaders = [
            ("loader", "l0", LOADER),
            ("loader", "l1", {"role": "validation", "batch_size": 64, "where": WHERE}),
        ]

        how = {"forwards": 4, "with_grad": 3}
        events = [Event("validation", START_NS, MS, data) for data in (how, {})]

        signals = signals_of(build_trainer(steps(200, phases), facts=loaders, events=events))

        assert value(signals, "validation.grad_share") == pytest.approx(0.75)
        assert value(signals, "validation.count") == 10
        assert value(signals, "validation.mean_s") == pytest.approx(0.05)
        assert value(signals, "validation.interval_steps") == pytest.approx(20)
        assert value(signals, "validation.batch_size") == 64
        assert value(signals, "validation.where") == PLACE

    def test_none_is_counted_not_missing(self):
        signals = signals_of(build_trainer(steps()))

        assert value(signals, "validation.count") == 0
        assert "no validation" in signals.get("validation.mean_s").reason


class TestRanksAndRun:
    def test_a_rank_that_the_others_wait_for(self):
        """Both steps take 10 ms, but rank 0 spends 4 of them waiting for rank 1."""
        waiting = {"forward": 3.0, "backward": 3.0, "comm_exposed": 4.0}
        working = {"forward": 5.0, "backward": 5.0}
        fact = ("distributed", "group", {"backend": "gloo", "world_size": 2})
        ranks = [
            build_trainer(steps(60, shape), rank=n, world_size=2, pid=100 + n, facts=[fact])
            for n, shape in enumerate((waiting, working))
        ]

        signals = signals_of(Session(tuple(ranks)))

        assert value(signals, "distributed.world_size") == 2
        assert value(signals, "distributed.backend") == "gloo"
        assert value(signals, "distributed.rank_spread_share") == pytest.approx(0.0)
        assert value(signals, "distributed.own_spread_share") == pytest.approx(0.4)
        assert value(signals, "distributed.slowest_rank") == 1

    def test_a_rank_that_was_killed_early_does_not_stand_for_all(self):
        ranks = [
            build_trainer(steps(count), rank=n, world_size=2, pid=100 + n)
            for n, count in enumerate((10, 60))
        ]

        assert value(signals_of(Session(tuple(ranks))), "step.count") == 60

    def test_startup_and_part_of_the_run_in_steps(self):
        signals = signals_of(build_trainer(steps(100)))

        assert value(signals, "run.startup_s") == (START_NS - PROCESS_NS) / 1e9
        assert value(signals, "run.wall_s") == 58.0
        assert value(signals, "run.step_time_share") == pytest.approx(1.0 / 58.0)

    def test_a_run_without_an_end(self):
        signals = signals_of(build_trainer(steps(30)), status="running", ended_ns=None)

        assert signals.get("run.wall_s").reason == "the run has no recorded end"
