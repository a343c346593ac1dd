"""The client library on one machine: three institutions as real processes, a model trained jointly, evaluated and asked.

The same calls work against a real consortium: `Client.from_profile()` in place of `Client.local()`, and rows that their owners
have registered in place of `client.register`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer

from parties.client import Client, JobFailed

SCHEMA = Path(__file__).parent / "breast_cancer_schema.yaml"
TRAINING = {"epochs": 5, "batch_size": 48, "learning_rate": 0.5, "momentum": 0.9}


def main() -> None:
    table = load_breast_cancer(as_frame=True)
    rows = table.data.rename(columns=lambda name: name.replace(" ", "_"))
    rows["benign"] = table.target
    rows = rows.sample(frac=1, random_state=1)
    samples, holdout, train = rows[:20], rows[20:140], rows[140:]

    with Client.local(parties=3) as client:
        for number, party in enumerate(("party-a", "party-b", "party-c")):
            client.register(party, "train", train[number::3], SCHEMA)
            client.register(party, "holdout", holdout[number::3], SCHEMA)
        print(client.all_datasets())

        module = torch.nn.Sequential(torch.nn.Linear(30, 1))
        datasets = [entry.label for entry in client.all_datasets() if entry.name == "train"]
        job = client.train(module, datasets=datasets, model_name="diagnosis", training=TRAINING)
        try:
            job.wait(timeout_s=120)
        except JobFailed as failure:
            print(job.explain())
            raise SystemExit(failure.fix) from failure
        print(f"{job.model}: shares at party-a and party-b, known to nobody")

        datasets = [entry.label for entry in client.all_datasets() if entry.name == "holdout"]
        correct = client.evaluate(job.model, datasets=datasets).result()["correct"]
        print(f"{int(correct[0])} of {len(holdout)} held-out rows are right; nothing else was opened")

        labels = client.predict(job.model, samples.drop(columns="benign"))
        agree = int((labels["label"] == samples["benign"]).sum())
        print(f"{agree} of {len(samples)} samples that nobody else saw: as in the records")
        print(client.all_jobs())


if __name__ == "__main__":
    main()
