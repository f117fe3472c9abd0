"""Mark sequences of the loop shapes that people write, under a fake clock.

A `Tape` plays a loop: every call advances the clock by a known amount and leaves the marks that the
hooks would leave, so that the true time of each phase is known exactly.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

from trainprof.profiler.agent import marks as m

GRAD_TRAIN = m.FORWARD_GRAD | m.FORWARD_TRAINING
TRAIN, VALID, EXTRA = 0, 1, 2
NET, OTHER = 0, 1


class Tape:
    """Marks with their times; `truth` sums what each phase was given."""

    def __init__(self):
        self.now = 1_000
        self.marks = []
        self.truth = Counter()
        self.updates = 0

    def mark(self, kind, object_id=0, extra=0):
        self.marks.append((kind, self.now, object_id, extra))

    def spend(self, phase, ns):
        self.now += ns
        self.truth[phase] += ns

    @contextmanager
    def bracket(self, kind, object_id=0, extra=0, end=None):
        self.mark(kind, object_id, extra)
        yield
        self.mark(kind + 1 if end is None else end, object_id, extra)

    def iterator(self, loader=TRAIN, ns=40, phase="data_wait"):
        with self.bracket(m.ITERATOR, loader):
            self.spend(phase, ns)

    def batch(self, loader=TRAIN, ns=100, size=8, phase="data_wait"):
        self.mark(m.ASK, loader)
        self.spend(phase, ns)
        self.mark(m.GOT, loader, size)

    def exhausted(self, loader=TRAIN, ns=10, phase="data_wait"):
        self.mark(m.ASK, loader)
        self.spend(phase, ns)
        self.mark(m.END, loader)

    def forward(self, module=NET, ns=200, bits=GRAD_TRAIN, phase="forward"):
        with self.bracket(m.FORWARD, module, bits):
            self.spend(phase, ns)

    def loss(self, ns=30):
        self.spend("loss", ns)

    def backward(self, ns=400, value=None):
        with self.bracket(m.BACKWARD, 0, value):
            self.spend("backward", ns)

    def optimizer(self, number=0, ns=60, clip=20):
        self.spend("optimizer", clip)
        with self.bracket(m.OPTIMIZER, number):
            self.spend("optimizer", ns)
        self.updates += 1

    def zero_grad(self, ns=7):
        with self.bracket(m.ZERO_GRAD):
            self.spend("optimizer", ns)

    def micro_batch(self, loader=TRAIN, ns=100):
        self.batch(loader, ns)
        self.spend("residual", 3)
        self.forward()
        self.loss()
        self.backward()

    def validation(self, loader=VALID, batches=3, bits=0, finish=True):
        self.iterator(loader, phase="validation")
        for batch in range(batches):
            self.batch(loader, phase="validation")
            self.spend("validation", 2)
            self.forward(bits=bits, phase="validation")
            # Where it is cut short, nothing tells its last words from the loop's next ones.
            known = finish or batch < batches - 1
            self.spend("validation" if known else "residual", 5)
        if finish:
            self.exhausted(loader, phase="validation")


def plain(steps=6, epochs=1):
    tape = Tape()
    for _ in range(epochs):
        tape.iterator()
        for _ in range(steps):
            tape.batch()
            tape.zero_grad()
            tape.spend("residual", 2)
            tape.forward()
            tape.loss()
            tape.backward()
            tape.optimizer()
            tape.spend("residual", 4)
        tape.exhausted()
    return tape, steps * epochs


def accumulation(updates=4, every=3, leftover=0, epochs=1):
    tape = Tape()
    for _ in range(epochs):
        tape.iterator()
        for _ in range(updates):
            for _ in range(every):
                tape.micro_batch()
            tape.optimizer()
            tape.zero_grad()
        for _ in range(leftover):
            tape.micro_batch()
        tape.exhausted()
    return tape, epochs * (updates + bool(leftover))


def fetches_up_front(updates=4, every=3):
    """transformers.Trainer: all micro-batches of an update are fetched first."""
    tape = Tape()
    tape.iterator()
    for _ in range(updates):
        for _ in range(every):
            tape.batch()
        for _ in range(every):
            tape.spend("residual", 3)
            tape.forward()
            tape.loss()
            tape.backward()
        tape.optimizer()
        tape.zero_grad()
    tape.exhausted()
    return tape, updates


def one_ahead(steps=6, epochs=2):
    """Accelerate: the next batch is fetched before the current one is handed out."""
    tape = Tape()
    for _ in range(epochs):
        tape.iterator()
        tape.batch()
        for step in range(steps):
            if step < steps - 1:
                tape.batch()
            else:
                tape.exhausted()
            tape.forward()
            tape.loss()
            tape.backward()
            tape.optimizer()
            tape.zero_grad()
    return tape, steps * epochs


def gan(steps=5):
    tape = Tape()
    tape.iterator()
    for _ in range(steps):
        tape.batch()
        tape.zero_grad()
        tape.forward(OTHER)
        tape.loss()
        tape.backward()
        tape.spend("residual", 9)
        tape.forward(NET)
        tape.spend("forward", 6)  # from the generator into the discriminator
        tape.forward(OTHER)
        tape.loss()
        tape.backward()
        tape.optimizer(0)
        tape.zero_grad()
        tape.spend("residual", 5)
        tape.forward(OTHER)
        tape.loss()
        tape.backward()
        tape.optimizer(1)
    tape.exhausted()
    return tape, steps


def gan_without_loader(steps=5):
    tape = Tape()
    for _ in range(steps):
        for optimizer in (0, 1):
            tape.forward(optimizer)
            tape.loss()
            tape.backward()
            tape.optimizer(optimizer)
    return tape, steps


def validation_in_mid_epoch(steps=9, every=3, bits=0, finish=True):
    tape = Tape()
    tape.iterator()
    for step in range(steps):
        tape.micro_batch()
        tape.optimizer()
        if step % every == every - 1 and step < steps - 1:
            tape.validation(bits=bits, finish=finish)
    tape.exhausted()
    return tape, steps


def validation_each_epoch(steps=4, epochs=3, bits=0):
    tape = Tape()
    for epoch in range(epochs):
        tape.iterator()
        for _ in range(steps):
            tape.micro_batch()
            tape.optimizer()
        tape.exhausted()
        if epoch < epochs - 1:
            tape.validation(bits=bits)
    return tape, steps * epochs


def validation_without_a_loader(steps=9, every=3, bits=m.FORWARD_GRAD, asks=False):
    """`model.eval()`, losses over tensors that are at hand (or a loader), `model.train()`."""
    # Nothing tells what follows its last forward from the loop's next words; between two forwards
    # with gradients a gap counts as forward.
    afterwards = "forward" if bits and not asks else "residual"
    tape = Tape()
    for step in range(steps):
        tape.forward()
        tape.loss()
        tape.backward()
        tape.optimizer()
        if step % every == every - 1 and step < steps - 1:
            if asks:
                tape.iterator(VALID, phase="validation")
            for batch in range(4):
                if asks:
                    tape.batch(VALID, phase="validation")
                tape.forward(bits=bits, phase="validation")
                tape.spend("validation" if batch < 3 else afterwards, 5)
            if asks:
                tape.exhausted(VALID, phase="data_wait")
    return tape, steps


def evaluation_mode_throughout(steps=6, forwards=1):
    """A fine-tuning that keeps its BatchNorm layers as they are: the model never trains."""
    tape = Tape()
    for _ in range(steps):
        for _ in range(forwards):
            tape.forward(bits=m.FORWARD_GRAD)
        tape.loss()
        tape.backward()
        tape.optimizer()
    return tape, steps


def adversarial_in_evaluation_mode(steps=5):
    """A perturbation by the gradient of a forward in evaluation mode, then the training forward."""
    tape = Tape()
    for _ in range(steps):
        tape.forward(bits=m.FORWARD_GRAD)
        tape.loss()
        tape.backward()
        tape.spend("residual", 6)
        tape.forward()
        tape.loss()
        tape.backward()
        tape.optimizer()
    return tape, steps


def lbfgs(steps=5, evaluations=4, loader=True):
    tape = Tape()
    if loader:
        tape.iterator()
    for _ in range(steps):
        if loader:
            tape.batch()
        with tape.bracket(m.OPTIMIZER, 0):
            for _ in range(evaluations):
                tape.spend("optimizer", 15)
                tape.forward()
                tape.spend("optimizer", 11)  # the closure's own loss: inside the optimizer
                tape.backward()
            tape.spend("optimizer", 15)
        tape.updates += 1
    if loader:
        tape.exhausted()
    return tape, steps


def accumulation_with_closure(updates=4):
    """Lightning: the last micro-batch of an update runs inside the optimizer's closure."""
    tape = Tape()
    tape.iterator()
    for _ in range(updates):
        tape.micro_batch()
        tape.batch()
        with tape.bracket(m.OPTIMIZER, 0):
            tape.forward()
            tape.spend("optimizer", 11)
            tape.backward()
            tape.spend("optimizer", 60)
        tape.updates += 1
    tape.exhausted()
    return tape, updates


def by_hand(steps=6, loader=True):
    """`p -= lr * p.grad`: the update shows at the next ask, or at the next forward."""
    tape = Tape()
    if loader:
        tape.iterator()
    for step in range(steps):
        if step:
            tape.mark(m.UPDATE)
        if loader:
            tape.batch()
        tape.forward()
        tape.loss()
        tape.backward()
        tape.spend("residual", 50)
    tape.mark(m.UPDATE)
    if loader:
        tape.exhausted()
    return tape, steps


def behind_autograd(steps=6, loader=True):
    """`p.data -= ...`: no update is ever seen."""
    tape = Tape()
    if loader:
        tape.iterator()
    for _ in range(steps):
        if loader:
            tape.batch()
        tape.forward()
        tape.loss()
        tape.backward()
        tape.spend("residual", 50)
    if loader:
        tape.exhausted()
    return tape, steps


def without_loader(steps=7):
    tape = Tape()
    for _ in range(steps):
        tape.spend("residual", 25)
        tape.zero_grad()
        tape.forward()
        tape.loss()
        tape.backward()
        tape.optimizer()
    return tape, steps


def functional(steps=6):
    """Raw tensors: no module ever runs, so all from the batch to the backward is forward."""
    tape = Tape()
    tape.iterator()
    for _ in range(steps):
        tape.batch()
        tape.spend("forward", 150)
        tape.backward()
        tape.optimizer()
    tape.exhausted()
    return tape, steps


def functional_by_hand(steps=6):
    """Raw tensors without loader, module and optimizer: one step per backward."""
    tape = Tape()
    for step in range(steps):
        tape.spend("forward" if step else "residual", 150)
        tape.backward()
    return tape, steps


def accuracy_on_the_training_loader(steps=4, epochs=2):
    """A pass over the training loader itself without gradients, between the epochs."""
    tape = Tape()
    for epoch in range(epochs):
        tape.iterator()
        for _ in range(steps):
            tape.micro_batch()
            tape.optimizer()
        tape.exhausted()
        if epoch < epochs - 1:
            tape.iterator(phase="data_wait")
            for _ in range(3):
                tape.batch()  # the training loader's wait stays data wait
                tape.forward(bits=0, phase="validation")
            tape.exhausted(phase="data_wait")
    return tape, steps * epochs


def one_batch_kept(steps=30):
    """Overfitting a single batch: the loader is asked once."""
    tape = Tape()
    tape.iterator()
    tape.batch()
    for _ in range(steps):
        tape.forward()
        tape.loss()
        tape.backward()
        tape.optimizer()
    return tape, steps


def two_loaders(steps=5):
    """zip(labelled, unlabelled): both feed the same backward."""
    tape = Tape()
    tape.iterator(TRAIN)
    tape.iterator(EXTRA)
    for _ in range(steps):
        tape.batch(TRAIN)
        tape.batch(EXTRA)
        tape.forward()
        tape.loss()
        tape.backward()
        tape.optimizer()
    tape.exhausted(TRAIN)
    return tape, steps


def teacher(steps=5):
    """A frozen teacher without gradients, then the student: no validation."""
    tape = Tape()
    tape.iterator()
    for _ in range(steps):
        tape.batch()
        tape.forward(OTHER, bits=0)
        tape.spend("residual", 4)
        tape.forward(NET)
        tape.loss()
        tape.backward()
        tape.optimizer()
    tape.exhausted()
    return tape, steps


def recomputation(steps=5):
    """Activation checkpointing: forwards inside the backward belong to it."""
    tape = Tape()
    tape.iterator()
    for _ in range(steps):
        tape.batch()
        tape.forward()
        tape.loss()
        with tape.bracket(m.BACKWARD):
            tape.spend("backward", 100)
            tape.forward(phase="backward")
            tape.spend("backward", 100)
        tape.optimizer()
    tape.exhausted()
    return tape, steps


def model_in_dataset(steps=5):
    """A feature extractor inside the data set: data wait, not forward."""
    tape = Tape()
    tape.iterator()
    for _ in range(steps):
        tape.mark(m.ASK, TRAIN)
        tape.spend("data_wait", 20)
        tape.forward(OTHER, bits=0, phase="data_wait")
        tape.mark(m.GOT, TRAIN, 8)
        tape.forward()
        tape.loss()
        tape.backward()
        tape.optimizer()
    tape.exhausted()
    return tape, steps


def interrupted(steps=6):
    """Logging, saving and garbage collection in the middle of everything."""
    tape = Tape()
    tape.iterator()
    for _ in range(steps):
        tape.batch()
        tape.mark(m.FORWARD, NET, GRAD_TRAIN)
        tape.spend("forward", 50)
        with tape.bracket(m.GC):
            tape.spend("gc", 500)
        tape.spend("forward", 50)
        tape.mark(m.FORWARD_END, NET, GRAD_TRAIN)
        tape.loss(10)
        with tape.bracket(m.LOG):
            tape.spend("logging", 70)
        tape.loss(10)
        tape.backward()
        tape.optimizer()
        with tape.bracket(m.SAVE):
            tape.spend("checkpoint", 900)
            with tape.bracket(m.LOG):
                tape.spend("logging", 30)
    tape.exhausted()
    return tape, steps


def scaler(steps=6, skip=(1, 2)):
    """GradScaler.step around the optimizer; a batch whose update is skipped joins the next."""
    tape = Tape()
    tape.iterator()
    for step in range(steps):
        tape.batch()
        tape.forward()
        tape.loss()
        tape.backward()
        tape.spend("optimizer", 12)  # unscale
        with tape.bracket(m.SCALER):
            tape.spend("optimizer", 5)
            if step not in skip:
                with tape.bracket(m.OPTIMIZER, 0):
                    tape.spend("optimizer", 60)
        tape.spend("residual", 6)
    tape.exhausted()
    return tape, steps - len(skip)


LOOPS = {
    "plain": plain,
    "plain, 3 epochs": lambda: plain(4, 3),
    "accumulation": accumulation,
    "accumulation, unfinished": lambda: accumulation(leftover=2, epochs=2),
    "fetches up front": fetches_up_front,
    "one ahead": one_ahead,
    "gan": gan,
    "gan without loader": gan_without_loader,
    "validation in mid-epoch": validation_in_mid_epoch,
    "validation in mid-epoch, cut short": lambda: validation_in_mid_epoch(finish=False),
    "validation in mid-epoch, with gradients": lambda: validation_in_mid_epoch(bits=m.FORWARD_GRAD),
    "validation in mid-epoch, training mode": lambda: validation_in_mid_epoch(
        bits=m.FORWARD_TRAINING
    ),
    "validation each epoch": validation_each_epoch,
    "validation without a loader": lambda: validation_without_a_loader(bits=0),
    "validation without a loader, with gradients": validation_without_a_loader,
    "validation by the only loader": lambda: validation_without_a_loader(bits=0, asks=True),
    "validation by the only loader, with gradients": lambda: validation_without_a_loader(asks=True),
    "evaluation mode throughout": evaluation_mode_throughout,
    "evaluation mode throughout, two forwards": lambda: evaluation_mode_throughout(forwards=2),
    "adversarial in evaluation mode": adversarial_in_evaluation_mode,
    "lbfgs": lbfgs,
    "lbfgs, without loader": lambda: lbfgs(loader=False),
    "accumulation with closure": accumulation_with_closure,
    "by hand": by_hand,
    "by hand, without loader": lambda: by_hand(loader=False),
    "behind autograd": behind_autograd,
    "behind autograd, without loader": lambda: behind_autograd(loader=False),
    "behind autograd, long": lambda: behind_autograd(100),
    "without loader": without_loader,
    "functional": functional,
    "functional, by hand": functional_by_hand,
    "accuracy on the training loader": accuracy_on_the_training_loader,
    "one batch kept": one_batch_kept,
    "two loaders": two_loaders,
    "teacher": teacher,
    "recomputation": recomputation,
    "model in data set": model_in_dataset,
    "interrupted": interrupted,
    "scaler": scaler,
}
