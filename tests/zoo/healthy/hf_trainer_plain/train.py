"""Fine-tune a small encoder on a yes-or-no question about sentences."""

import tempfile

import torch
from torch.utils.data import Dataset
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainingArguments,
)


class Questions(Dataset):
    """Sentences of 24 tokens; the answer is whether the first is among the frequent ones."""

    def __init__(self, sentences, seed):
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(5, 400, (sentences, 24), generator=generator)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        tokens = self.tokens[index]
        return {"input_ids": tokens, "labels": int(tokens[0] < 200)}


def main():
    torch.set_num_threads(1)
    config = DistilBertConfig(
        vocab_size=400, dim=160, hidden_dim=480, n_layers=2, n_heads=4, max_position_embeddings=32
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=220,
            per_device_train_batch_size=16,
            learning_rate=5e-4,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=11,
        )
        trainer = Trainer(
            model=DistilBertForSequenceClassification(config),
            args=arguments,
            train_dataset=Questions(4000, 1),
            eval_dataset=Questions(64, 2),
        )
        trainer.train()
        print(trainer.evaluate())


if __name__ == "__main__":
    main()
