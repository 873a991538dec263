"""RecBole's LightGCN, trained by RecBole. Runs in RecBole's environment and knows nothing of ssmrec.

Writes the vectors after each asked epoch and prints a line of JSON for each; `recbole_env.py` starts
it and reads them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed


def main(
    folder: str, layers: int, batch: int, epochs: list[int], seed: int, evaluate_cells: int = 0
) -> None:
    """Train on `folder`/data and report; see `quality.py` and `evaluation.py` for what is read.

    Args:
        folder: holds data/data.{train,valid,test}.inter; embeddings go there too.
        layers: of LightGCN; batch: pairs a step.
        epochs: epochs after which the embeddings are written.
        seed: RecBole's.
        evaluate_cells: time RecBole's evaluator with blocks of so many scores; 0 leaves it out.
    """
    settings = _settings(folder, layers, batch, max(epochs, default=0), seed)
    if evaluate_cells:
        settings["eval_batch_size"] = evaluate_cells
    sys.argv = sys.argv[:1]  # RecBole reads the command line as settings
    config = Config(model="LightGCN", dataset="data", config_dict=settings)
    init_seed(seed, True)
    dataset = create_dataset(config)
    clock = -time.perf_counter()
    train, _, test = data_preparation(config, dataset)
    model = get_model("LightGCN")(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], "LightGCN")(config, model)
    clock += time.perf_counter()
    print(json.dumps({"built_seconds": clock, "torch": torch.__version__}), flush=True)
    names = {
        side: np.array(train.dataset.field2id_token[field][1:], dtype=np.int64)
        for side, field in (("users", "user_id"), ("items", "item_id"))
    }
    for epoch in range(1, max(epochs, default=0) + 1):
        start = time.perf_counter()
        trainer._train_epoch(train, epoch)
        clock += time.perf_counter() - start
        if epoch in epochs:
            with torch.no_grad():
                vectors = dict(zip(names, model.forward(), strict=True))
            path = Path(folder) / f"epoch{epoch}.npz"
            tables = {side: vectors[side][1:].numpy() for side in names}
            np.savez(path, **tables, **{f"{side}_ids": ids for side, ids in names.items()})
            print(json.dumps({"epoch": epoch, "seconds": clock, "file": str(path)}), flush=True)
    if evaluate_cells:
        _time_evaluator(trainer, model, test)


def _time_evaluator(trainer: Any, model: Any, test: Any) -> None:
    """Full ranking with Recall and NDCG at 20 of all test users; vectors are made before."""
    with torch.no_grad():
        model.restore_user_e, model.restore_item_e = model.forward()
    start = time.perf_counter()
    values = trainer.evaluate(test, load_best_model=False)
    took = time.perf_counter() - start
    count = len(test.uid_list)
    report = {"evaluated_users": count, "seconds": took, "values": dict(values)}
    print(json.dumps(report, default=float), flush=True)


def _settings(folder: str, layers: int, batch: int, epochs: int, seed: int) -> dict[str, Any]:
    return {
        "data_path": folder,
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "n_layers": layers,
        "embedding_size": 64,
        "train_batch_size": batch,
        "learning_rate": 1e-3,
        "epochs": max(epochs, 1),
        "seed": seed,
        "device": "cpu",
        "use_gpu": False,
        "show_progress": False,
        "metrics": ["Recall", "NDCG"],
        "topk": [20],
        "valid_metric": "NDCG@20",
        "eval_args": {"group_by": "user", "order": "RO", "mode": "full"},
        "checkpoint_dir": folder,
    }


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
