"""Training on several processes with DeepSpeed: zero2, zero3 and zero3_offload.

The same surface as ``TorchEngine``. The JSON files in ``configs/deepspeed`` say how; what a run
learns (optimizer, schedule, clipping, examples a step) is never in them.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param
from transformers.integrations import HfDeepSpeedConfig

from screl.models.loading import Model
from screl.training.engine import parameter_groups, put_buffers
from screl.training.model import Batch, PackedLM

if not torch.accelerator.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

CONFIGS = Path(__file__).parents[2] / "configs/deepspeed"


class DeepSpeedEngine:
    """A model, its optimizer, and how both are divided among processes."""

    def __init__(
        self,
        make_model: Callable[[torch.device], Model],
        sharding: str,
        precision: str,
        device: torch.device,
        optimizer_settings: dict[str, Any],
        max_grad_norm: float,
    ) -> None:
        """``make_model(device)`` gives the model; for zero3 its weights are divided as they are
        read."""
        self.device = device
        config = deepspeed_config(sharding, precision, max_grad_norm)
        exact = make_model(torch.device("meta"))  # no weights, but buffers
        divides = HfDeepSpeedConfig(config)  # while it lives, from_pretrained divides for zero3
        self.packed = PackedLM(make_model(torch.device("cpu")))
        del divides
        optimizer = torch.optim.AdamW(
            parameter_groups(self.packed), fused=True, **optimizer_settings
        )
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=self.packed, optimizer=optimizer, config=config
        )
        # zero3 makes the frequencies of the rotary embedding bf16, which places tokens wrongly
        put_buffers(exact, self.packed.model, device)

    def loss(self, batch: Batch) -> torch.Tensor:
        """That of a batch on this process's device."""
        loss: torch.Tensor = self.engine(batch)
        return loss

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add the gradients of ``loss``; those of all processes are summed after the ``last``."""
        self.engine.set_gradient_accumulation_boundary(last)
        # DeepSpeed takes the mean over processes
        self.engine.backward(loss * self.engine.world_size, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float:
        """Clip, update and forget the gradients; return their norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def learning_rate(self) -> float:
        """That of the running optimizer."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def save(self, folder: Path) -> None:
        """Write weights and optimizer, every process its part."""
        self.engine.save_checkpoint(str(folder), tag="state")

    def load(self, folder: Path) -> None:
        """Go on from what ``save`` wrote, on as many processes as wrote it."""
        self.engine.load_checkpoint(str(folder), tag="state")

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The float32 master weights by name, whole, one after the other; all processes must ask
        for them."""
        for name, weight in self.packed.model.named_parameters():
            yield name, safe_get_full_fp32_param(weight)

    def n_weights(self) -> int:
        """Of the whole model."""
        return sum(getattr(w, "ds_numel", w.numel()) for w in self.packed.parameters())

    def numbers_held(self) -> dict[str, int]:
        """How many numbers this process holds, of weights, gradients and optimizer state."""
        weights = list(self.packed.parameters())
        moments = [
            value
            for state in self.optimizer.optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor) and value.dim() > 0
        ]
        return {
            "weights": sum(getattr(weight, "ds_tensor", weight).numel() for weight in weights),
            "optimizer": sum(moment.numel() for moment in moments),
        }


def deepspeed_config(sharding: str, precision: str, max_grad_norm: float) -> dict[str, Any]:
    """The JSON file of ``sharding`` with what the command line decides."""
    config: dict[str, Any] = json.loads((CONFIGS / f"{sharding}.json").read_text())
    config["bf16"]["enabled"] = precision == "bf16"
    return config | {
        # What a step holds is laid out by packing.plan_step; DeepSpeed only must not count itself.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_grad_norm,
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": 2**31,
    }
