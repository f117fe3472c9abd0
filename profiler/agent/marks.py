"""Marks: what the training thread appends, and nothing more.

A mark is a tuple `(kind, time_ns, object_id, extra)`; on the steps whose thread states are sampled
it is `(kind, time_ns, object_id, extra, cpu_ns, run_queue_ns)`. Opening and closing marks of one
phase differ by one: the opening kind is even.
"""

from __future__ import annotations

ASK = 0  # the loop asks a loader iterator for a batch; object: loader
GOT = 1  # it was handed over; extra: samples in it, -1 unknown; END closes an ASK as well
FORWARD = 2  # a root module is called; object: module; extra: FORWARD_* bits
FORWARD_END = 3
BACKWARD = 4  # extra: the loss value where it is free to read (CPU), else None
BACKWARD_END = 5
OPTIMIZER = 6  # Optimizer.step; object: optimizer
OPTIMIZER_END = 7
ZERO_GRAD = 8
ZERO_GRAD_END = 9
SAVE = 10  # torch.save, save_pretrained, safetensors
SAVE_END = 11
LOG = 12  # print, logging, tqdm, SummaryWriter, wandb
LOG_END = 13
GC = 14  # extra: generation
GC_END = 15
TO_DEVICE = 16  # host-to-device copies, patched only where an accelerator exists
TO_DEVICE_END = 17
SYNC = 18  # .item(), .cpu(), synchronize, patched only where an accelerator exists
SYNC_END = 19
COMPILE = 20  # dynamo compiles a frame
COMPILE_END = 21
COMM = 22  # a collective, or the wait for gradients after the last one was produced
COMM_END = 23
ITERATOR = 24  # a loader makes its iterator (starts its workers); object: loader
ITERATOR_END = 25
PHASE = 26  # the public trainprof.phase("name"); object: index of the phase
PHASE_END = 27
UPDATE = 28  # a parameter changed in place without an optimizer (no closing mark)
STEP = 30  # the public trainprof.step() (no closing mark)
END = 32  # the iterator is exhausted: closes an ASK like GOT does; object: loader
FINISH = 34  # the training is over (no closing mark)
SCALER = 36  # GradScaler.step: an update only if the optimizer's own step runs inside it
SCALER_END = 37

FORWARD_GRAD = 1  # gradients were enabled
FORWARD_TRAINING = 2  # module.training
FORWARD_COMPILED = 4  # a module compiled by torch.compile
