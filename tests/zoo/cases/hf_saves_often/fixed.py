"""Train a small GPT-2 with the Trainer of transformers, and keep many checkpoints."""

import tempfile

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

SAVE_STEPS = 200


class Phrases(Dataset):
    def __init__(self, count):
        generator = torch.Generator().manual_seed(1)
        self.tokens = torch.randint(0, 300, (count, 16), generator=generator)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def main():
    torch.set_num_threads(1)
    sizes = {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": 300}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=160,
            per_device_train_batch_size=8,
            save_steps=SAVE_STEPS,
            save_total_limit=2,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        model = GPT2LMHeadModel(GPT2Config(**sizes))
        Trainer(model=model, args=arguments, train_dataset=Phrases(2000)).train()


if __name__ == "__main__":
    main()
