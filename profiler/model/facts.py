"""The payload of every kind of Fact and Event: the one place where the keys are named.

All keys are optional for a reader: an older agent, another torch or a guard that disabled a
collector leaves some out.
"""

from __future__ import annotations

from typing import TypedDict


class Where(TypedDict, total=False):
    """A place in the user's source."""

    file: str
    line: int
    function: str


class ModuleNode(TypedDict, total=False):
    """One submodule (at most 2,000 are recorded, by definition order)."""

    name: str
    type: str
    parameters: int


class ModelFact(TypedDict, total=False):
    """Fact "model": one root module, key "m0", "m1", ... in order of first call."""

    type: str
    where: Where
    parameter_count: int
    parameter_bytes: int
    trainable_count: int
    dtypes: dict[str, int]  # dtype -> number of elements
    devices: dict[str, int]
    buffer_bytes: int
    submodule_count: int
    submodules: list[ModuleNode]
    batch_norms: int  # BatchNorm layers in training mode, synchronised ones left out
    convolutions: int
    image_convolutions: int  # Conv2d, those that learn and those that do not
    switchable_attentions: int  # nn.MultiheadAttention, eager models of transformers
    data_parallel_devices: int  # of a DataParallel on the outside
    biases_before_norm: int  # convolutions with a bias whose next sibling is a BatchNorm
    wrapper: str | None  # DistributedDataParallel, FSDP, OptimizedModule, DataParallel ...
    training: bool


class OptimizerFact(TypedDict, total=False):
    """Fact "optimizer": key "o0", "o1", ..."""

    type: str
    where: Where
    groups: list[dict[str, object]]  # lr, foreach, fused, capturable, differentiable, ...
    implementation: str | None  # forloop | foreach | fused | None (not one of torch's)
    fused_supported: bool | None
    parameter_count: int
    tensor_count: int
    state_bytes: int
    params_in_no_group: int  # trainable parameters of the models that no group holds


class UntrainedFact(TypedDict, total=False):
    """Fact "untrained", key "all": parameters that require gradients and that nothing moves."""

    parameters: int  # elements of them
    trainable: int  # elements of all parameters that require gradients
    tensors: int
    modules: list[str]  # the outermost modules that consist of them, in definition order
    changed: bool | None  # their values have changed all the same; None: not compared yet
    updates_compared: int  # updates between the first and the latest comparison
    backward_samples: list[list[int]]  # [ns of a backward, ns after the last useful gradient]
    on_cpu: bool


class FrozenFact(TypedDict, total=False):
    """Fact "frozen", key "all": modules of which no parameter requires a gradient."""

    modules: list[str]  # the outermost ones
    parameters: int  # elements of them
    changed: bool | None  # their values have changed all the same; None: not compared yet
    updates_compared: int
    random_layers: list[str]  # Dropout, BatchNorm ... among them, in training mode
    samples: list[list[int]]  # [ns from one backward to the next, ns of them in these modules]
    rows_compared: int  # rows of their input on sampled steps
    rows_known: int  # rows that were met in an earlier epoch
    row_pairs: int  # pairs of a row and a remembered one of an earlier epoch
    feature_bytes: int | None  # of one row of what they give


class UnitLayer(TypedDict, total=False):
    """One convolution or linear layer of the fact "units"."""

    name: str
    type: str
    channels: int  # that it gives
    parameters: int
    flops: int  # of its forward in one step; 0: it was not seen running
    zero_rows: int  # channels of which every weight is below 1e-8, from a part of each row
    zero_share: float  # part of all its weights below 1e-8
    never_active: int  # channels not once above zero at the ReLU behind it
    rows: int  # values of each channel that were looked at for it
    first_update: int  # when the first of them was looked at
    active_decile: int  # of the active channels a tenth were above zero no more often than this


class UnitsFact(TypedDict, total=False):
    """Fact "units", key "all": output channels of the trained models' layers."""

    sparse: bool  # weights are pruned, masked or parametrized: zeros are there by design
    layers: list[dict[str, object]]  # each a UnitLayer, the largest 64
    sampled_steps: int
    last_update: int


class StartFact(TypedDict, total=False):
    """Fact "start", key of the model: a published architecture before the first update."""

    type: str  # the outermost class of a library's models, inside the user's
    name: str  # of the submodule, "" for the root itself
    parameters: int  # elements of it
    norms: int  # normalising layers that were read
    norms_untouched: int  # of these, such as hold exactly what their constructor wrote
    input_channels: int | None  # of its first convolution
    vocabulary: int | None  # rows of its first embedding table


class GradientsFact(TypedDict, total=False):
    """Fact "gradients", key "all": only where they are zeroed in place instead of dropped."""

    kept: bool
    samples: list[list[int]]  # [ns from one backward to the next, ns of it inside zero_grad()]


class DenormalsFact(TypedDict, total=False):
    """Fact "denormals", key "all": float32 numbers on the CPU below the smallest normal one."""

    elements: dict[str, int]  # kind of tensor -> elements that the last look has seen
    subnormal: dict[str, int]  # of these, subnormal ones
    worst: str | None  # kind and name of the tensor with the largest part of them
    worst_fraction: float
    flushed: bool  # the CPU takes them for zero already
    # Of each look, in ns: from one backward to the next without waiting for a CPU; operators of the
    # forward that were tried as they are, and with subnormals taken for zero; both of the update.
    samples: list[list[int]]
    complete: bool  # every operator with subnormals was tried


class LoaderFact(TypedDict, total=False):
    """Fact "loader": key "l0", "l1", ... one per data set that was iterated."""

    role: str  # training | validation | unknown
    where: Where
    num_workers: int
    batch_size: int | None
    shuffle: bool | None
    pin_memory: bool
    drop_last: bool
    prefetch_factor: int | None
    persistent_workers: bool
    in_order: bool
    timeout_s: float
    multiprocessing_context: str | None
    sampler: str
    sharded: bool | None  # gives each rank a part; None where the user's own class decides
    sampler_epoch: int | None  # what set_epoch() said last, of a DistributedSampler
    collate: str
    dataset_type: str
    dataset_where: Where
    dataset_length: int | None
    dataset_paths: dict[str, str]  # paths among its attributes -> kind of file system, or scheme
    dataset_objects: int  # Python objects in its large lists, tuples, sets and dicts
    dataset_objects_bytes: int  # their size, from 64 of each
    iterable: bool
    batches: int | None  # len(loader), None when it has none
    loaders_made: int  # DataLoader objects seen for this data set
    iterators_made: int


class FlagsFact(TypedDict, total=False):
    """Fact "flags": key "start" (first step) and "steady" (latest reading)."""

    num_threads: int
    num_interop_threads: int
    cpu_count_torch: int
    anomaly_enabled: bool
    profiler_enabled: bool
    deterministic_algorithms: bool
    cudnn_benchmark: bool
    cudnn_deterministic: bool
    matmul_precision: str
    default_dtype: str
    autocast: dict[str, str]  # device -> dtype, where enabled
    grad_scaler: bool
    flush_denormal: bool | None
    gc_enabled: bool
    gc_threshold: list[int]
    gc_frozen: int
    tracing: bool  # sys.settrace or sys.setprofile set, not by us
    python_malloc: str | None
    anomaly_where: Where
    profiler_where: Where
    accelerator: str | None  # type of the available accelerator
    torch_cuda_build: str | None
    accelerator_uuids: list[str]  # of CUDA devices, in torch's order, once one is in use


class DistributedFact(TypedDict, total=False):
    """Fact "distributed": key "group"."""

    backend: str
    rank: int
    world_size: int
    backwards: int  # of models in DistributedDataParallel
    synced_backwards: int  # those after which gradients were averaged
    ddp: dict[str, object]  # find_unused_parameters, bucket_bytes, static_graph, ...


class BatchFact(TypedDict, total=False):
    """Fact "batch": key of the loader; the shape of what the loader returns."""

    samples: int
    tensors: list[dict[str, object]]  # dtype, shape, device
    bytes: int
    rows: list[int]  # hashes of up to 64 rows of the first tensor that has any to read


class PaddingFact(TypedDict, total=False):
    """Fact "padding": key of the loader; of batches that the training was given, or the probe."""

    padding_batches: int
    padding_by_mask: bool  # a mask told what is padding; else equal values at the rows' ends
    padding_share: float
    padding_share_to_longest: float  # were each batch padded to its longest row only
    padding_share_grouped: float  # and made of rows of similar length
    length_median: int
    length_p90: int
    length_max: int
    padded_length: int
    padded_length_varies: bool


class CopyFact(TypedDict, total=False):
    """Fact "copy": key of the loader; what became of copying its data set for the probe."""

    role: str  # "validation", or absent for the loader that feeds the training
    file: str  # in the process's folder, without ".pickle" and ".buffers"
    bytes: int
    cpu_ns: int  # of the agent's thread
    reason: str  # why there is none


class ItemPart(TypedDict, total=False):
    """One function that making an item calls, and its time per item."""

    name: str
    s: float
    reads: bool  # it opens files
    where: Where


class DatasetFact(PaddingFact, total=False):
    """Fact "dataset": key of the loader; what the probe found, as far as it came (probe.jsonl).

    Times are of the probe's own process; an item is what `dataset[i]` gives.
    """

    length: int
    items: int  # fetched three times each
    item_s: float  # fetched again; queueing for a CPU left out
    item_first_s: float
    item_cpu_s: float
    item_blocked_s: float
    item_bytes: float
    item_read_bytes: float  # of one fetch, from the page cache or not
    item_disk_bytes: float  # of the first fetch
    item_files: float  # opened by Python code
    item_file_s: float  # in library calls that open or read files
    file_where: Where | None
    item_token_s: float  # in calls that make numbers of text
    repeatable: bool | None
    draws_random_numbers: bool
    parts: list[ItemPart]  # the costliest first
    batch_size: int
    collate_s: float
    collate_token_s: float
    stack_s: float
    collate_number_lists: int
    collate_array_lists: bool
    collate_hottest: str | None
    collate_where: Where
    token_function: str
    token_where: Where | None
    decoded_pixels: float  # per item
    delivered_pixels: float
    decode_s: float
    resize_s: float
    image_crops: float
    image_format: str
    hashed_items: int
    hashed_all: bool
    hashed_at_random: bool  # in random order; else from the beginning of what is iterated
    distinct_items: int
    equal_pairs: int
    near: str  # how near copies are compared: "text" or "image"
    near_items: int
    near_contents: int  # different ones among them
    near_pairs: int  # of these, alike
    near_groups: int  # of these, those alike counted as one
    near_reason: str  # why they are not compared
    validation: str  # key of the loader
    validation_length: int | None
    validation_hashed: int
    validation_all: bool
    validation_known: int  # of these, among the hashed items of the training


class NumaFact(TypedDict, total=False):
    """Fact "numa", key "cpus": where the process may run."""

    nodes: int  # of the machine, that have CPUs
    cpu_nodes: list[int]  # whose CPUs the main thread may run on


class MemoryFact(TypedDict, total=False):
    """Fact "memory": key "peak", refreshed once a second."""

    peak_rss_bytes: int
    python_blocks: int  # sys.getallocatedblocks()
    accelerator_peak_bytes: int | None


class OperatorsFact(TypedDict, total=False):
    """Fact "operators": key "w0", "w1" ... of one step each under torch's profiler.

    Where there is none, the key "status" gives the reason.

    `calls` are columns over the operators that the training thread called by itself, in order:
    number of the operator, number of the zone, start and wall time, time of its nodes in the
    backward, time of copies that rearrange memory inside it (all in `unit_ns`), and the storages
    that it was given, by number.
    """

    start_ns: int
    wall_ns: int  # of the step under the profiler
    run_queue_ns: int  # of that, waiting for a CPU; -1 where it cannot be read
    cost_ns: dict[str, int]  # opening, stopping (training thread), reading (agent's thread)
    events: int
    unit_ns: int
    zones: list[str]
    operators: list[list[object]]  # name, shapes of the tensors it was given, their dtypes
    calls: dict[str, list[object]]
    kernels: list[list[object]]  # zone, name, calls, self time: whatever ran, inner ones too
    parameters: list[int]  # storages of trained parameters
    gradients: list[int]
    truncated: bool
    lines: list[list[object]]  # torch function, file, line, function, called directly, calls
    reason: str  # key "status": why there is no window


# Events, by kind:
#   checkpoint     data: file, bytes, call (torch.save, save_pretrained ...), where
#   gc             data: generation, collected, manual (bool); only pauses of 1 ms or more, and
#                  one summary event per second: count, total_ns, manual count per generation
#   validation     data: forwards (in evaluation mode, near its end), with_grad (of these, with
#                  gradients enabled)
#   deepcopy       copies of models, one event per second: data: count, total_ns, what, where
#   compile        data: frames, recompiles
#   logging        one summary event per second: data: calls per channel, total_ns per channel,
#                  where (the most frequent place per channel)
#   metrics        values that the script logs, one event per second: data: values (tag -> list of
#                  [microseconds after the event's start, step or null, value]), where (tag ->
#                  place, in the first event that has the tag)
#   wandb_run      the script logs to this W&B run from now on; data: run_id, project, entity, mode,
#                  sync_dir, as far as its settings have them
#   scaler         updates through a GradScaler, one event per second: data: steps, skipped (after
#                  the first that was not), searching (before it), untold (a fused optimizer skips)
#   loader_start   data: loader, workers; duration = from iter() to its first batch
#   graph_alive    data: step_made, age_steps, where: a loss graph that outlived its step
#   operators      the steps that a window of torch's profiler touched; data: window, cost_ns
#   window         the same of a trace (see traces/); data: number, first, steps, why (request,
#                  steps or auto), bytes (null: not written), cost_ns; or the problem for which it
#                  was given up. Saving it is a second one, which has the number alone
#   denormals      a look at some elements and operators held the training up
#   collector_failed  data: collector, error
#   warning        data: category, message (first 300 characters), where
#   data_missing   data: from_ns, reason (disk full): records between were lost
