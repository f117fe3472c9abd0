"""transformers.Trainer on a tiny random BERT: accumulation, evaluation, checkpoints."""

import json
import sys
import tempfile
import warnings

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
warnings.simplefilter("ignore")


class Sentences(Dataset):
    """Random tokens; the label is the parity of the first."""

    def __init__(self, sentences, seed):
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(0, 50, (sentences, 6), generator=generator)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        tokens = self.tokens[index]
        return {"input_ids": tokens, "labels": tokens[0] % 2}


torch.manual_seed(0)
torch.set_num_threads(1)
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
model = BertForSequenceClassification(
    BertConfig(vocab_size=50, intermediate_size=32, max_position_embeddings=8, **sizes)
)
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        eval_strategy="steps",
        eval_steps=8,
        save_strategy="steps",
        save_steps=8,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Sentences(160, 1),
        eval_dataset=Sentences(24, 2),
    )
    silent, sys.stdout = sys.stdout, sys.stderr  # its own log lines carry times
    trainer.train()
    sys.stdout = silent

for entry in trainer.state.log_history:
    print({name: entry[name] for name in ("loss", "grad_norm", "eval_loss") if name in entry})
expected = {
    "steps": 40,
    "micro_batches": 2,
    "training_length": 160,
    "validation_length": 24,
    "validation_in": [7, 15, 23, 31, 39],
    "checkpoint_in": [7, 15, 23, 31, 39],
}
print(json.dumps(expected))
