"""Fine-tune a small BERT on random sentences: the script of docs/hf-trainer.md."""

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments


class Sentences(Dataset):
    def __init__(self, count):
        self.tokens = torch.randint(0, 500, (count, 32))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        tokens = self.tokens[index]
        return {"input_ids": tokens, "labels": tokens[0] % 2}


torch.manual_seed(0)
config = BertConfig(
    vocab_size=500,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=128,
)
arguments = TrainingArguments(
    output_dir="checkpoints",
    max_steps=120,
    per_device_train_batch_size=8,
    gradient_accumulation_steps=2,
    eval_strategy="steps",
    eval_steps=40,
    save_steps=40,
    logging_steps=1,
    report_to=[],
    use_cpu=True,
)
Trainer(
    model=BertForSequenceClassification(config),
    args=arguments,
    train_dataset=Sentences(4000),
    eval_dataset=Sentences(64),
).train()
