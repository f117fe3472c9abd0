"""What the signals of operators are: runs and traces share some, and this imports nothing else."""

from __future__ import annotations

from trainprof.rules.signals.sheet import Description

DESCRIPTIONS = (
    Description("operators.window_s", "s", "The step under the profiler, which lengthens it."),
    Description("operators.count", "count", "Operators that the training thread called in it."),
    Description("operators.median_s", "s", "Median length of such a call in the forward."),
    Description(
        "operators.attention_share",
        "share",
        "Part of the step, backward included, in attention written out as product, softmax, "
        "product.",
    ),
    Description("operators.attention_count", "count", "Such attentions in a step."),
    Description("operators.attention_length", "count", "Keys that a query of the longest sees."),
    Description("operators.attention_masked", "bool", "Their scores are masked."),
    Description("operators.attention_where", "place", "Where their softmax is called."),
    Description(
        "operators.gap_share",
        "share",
        "Part of the step between the operators of forward and backward: Python and torch's own "
        "bookkeeping.",
    ),
    Description(
        "operators.short_share",
        "share",
        "Part of the step in operators of less than 20 us, inner ones too, and in the pauses "
        "between operators, of forward and backward.",
    ),
    Description(
        "operators.loop_share",
        "share",
        "Part of the step, backward included, in loops of the forward that go over the same "
        "tensors turn by turn.",
    ),
    Description("operators.loop_turns", "count", "Turns of the dearest such loop."),
    Description("operators.loop_body", "count", "Operators of one of its turns."),
    Description("operators.loop_median_s", "s", "Median length of an operator in it."),
    Description("operators.loop_where", "place", "Where it calls torch most often."),
    Description(
        "operators.parameter_loop_share",
        "share",
        "Part of the step in loops over parameters or gradients outside of the optimizer.",
    ),
    Description("operators.parameter_loop_tensors", "count", "Tensors that they go over."),
    Description("operators.parameter_loop_item", "bool", "They read values with .item()."),
    Description("operators.parameter_loop_where", "place", "Where such a loop calls torch."),
    Description(
        "operators.onehot_share",
        "share",
        "Part of the step, backward included, in one-hot vectors and the product they go into.",
    ),
    Description("operators.onehot_classes", "count", "Length of the one-hot vectors."),
    Description("operators.onehot_where", "place", "Where they are made."),
    Description(
        "operators.rearranged_share",
        "share",
        "Part of the step in copies that bring elements into another order in memory.",
    ),
    Description("operators.rearranged_in", "text", "Which operators make most of them."),
    Description("operators.rearranged_where", "place", "Where such an operator is called."),
    Description("operators.embedding_rows", "count", "Rows of the largest embedding table."),
    Description("operators.embedding_touched_share", "share", "Rows that a batch can touch."),
    Description("operators.embedding_bytes", "bytes", "Its size."),
    Description(
        "operators.embedding_backward_share", "share", "Part of the step in its dense gradient."
    ),
    Description("operators.embedding_where", "place", "Where it is looked up."),
    Description(
        "operators.product_share",
        "share",
        "Part of the step, backward included, in float32 products and convolutions at least 512 "
        "wide.",
    ),
    Description(
        "operators.chain_share",
        "share",
        "Part of the step, backward included, in chains of element-wise operators and norms.",
    ),
    Description("operators.chain_length", "count", "Operators of such a chain, on average."),
    Description("operators.chain_where", "place", "Where the dearest operator of them is called."),
    Description(
        "operators.shapes_repeat", "bool", "All steps that were watched worked on the same shapes."
    ),
)
