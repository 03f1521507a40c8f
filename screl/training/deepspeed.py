"""Train on several processes with DeepSpeed: zero2, zero3 and zero3_offload.

``DeepSpeedEngine`` has the methods of ``TorchEngine``. The JSON files in ``configs/deepspeed`` say
what is divided and in which buckets; they never contain settings that change what a run learns
(optimizer, schedule, clipping, examples per step).
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from screl.core.io import UserError
from screl.models.loading import Model
from screl.models.tokenizer import Tokenizer
from screl.training.config import TrainConfig, deepspeed_settings
from screl.training.engine import load_trainable, materialize, parameter_groups, set_buffers
from screl.training.extensions import refuse_dead_locks
from screl.training.model import Batch, PackedLM, evaluating
from screl.training.processes import is_main_process, local_world_size, say
from screl.training.weights import StoredWeights, find_weights, read_weights

if not torch.cuda.is_available():  # chosen when deepspeed is imported, with a warning if not named
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.ops.adam import DeepSpeedCPUAdam
from deepspeed.utils import safe_get_full_fp32_param


class DeepSpeedEngine:
    """A model and its optimizer, divided among processes by DeepSpeed."""

    def __init__(self, config: TrainConfig, tokenizer: Tokenizer, device: torch.device) -> None:
        """Divide the base model; zero3 divides it while it is read."""
        self.device = device
        refuse_dead_locks()
        dist.barrier()  # from now on one of the processes may build what the others wait for
        settings = deepspeed_config(config)
        model = load_trainable(config, tokenizer, torch.device("meta"))  # no weights, but buffers
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        load = load_copy if config.sharding == "zero2" else load_divided
        self.packed = PackedLM(load(model, config, tokenizer, settings, device))
        groups = parameter_groups(self.packed)
        optimizer: torch.optim.Optimizer
        if config.sharding == "zero3_offload":
            # Its states lie in host memory. The first run on a machine compiles it.
            optimizer = DeepSpeedCPUAdam(
                groups, lr=config.learning_rate, weight_decay=config.weight_decay
            )
        else:
            optimizer = torch.optim.AdamW(
                groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
            )
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=self.packed, optimizer=optimizer, config=settings
        )
        # zero3 rounds the frequencies of the rotary embedding to bf16, which shifts positions
        set_buffers(self.packed.model, buffers, device)

    def add_gradients(self, batches: Sequence[Batch]) -> list[torch.Tensor]:
        """Run all micro-batches of a step forward and backward; return their losses.

        The losses are on this process's device. The gradients of all processes are summed after the
        last micro-batch.
        """
        losses = []
        for number, batch in enumerate(batches, start=1):
            loss = self.engine(batch.to(self.device))
            self.engine.set_gradient_accumulation_boundary(number == len(batches))
            # DeepSpeed takes the mean over processes
            self.engine.backward(loss * self.engine.world_size, scale_wrt_gas=False)
            losses.append(loss.detach())
        return losses

    def losses(self, batches: Sequence[Batch]) -> list[torch.Tensor]:
        """Return the losses of ``batches``, without dropout or gradients."""
        with evaluating(self.packed):
            return [self.engine(batch.to(self.device)) for batch in batches]

    def step(self, learning_rate: float) -> float:
        """Clip, update and clear the gradients; return their norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def learning_rate(self) -> float:
        """Return the learning rate of the running optimizer."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state; every process writes its part."""
        self.engine.save_checkpoint(str(folder), tag="state")

    def load(self, folder: Path) -> None:
        """Load what ``save`` wrote; the number of processes must be the same."""
        self.engine.load_checkpoint(str(folder), tag="state")

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the name and the whole float32 master of each weight.

        All processes must iterate together.
        """
        for name, weight in self.packed.model.named_parameters():
            yield name, safe_get_full_fp32_param(weight)

    def numbers_held(self) -> dict[str, int]:
        """Return how many numbers of weights and of optimizer state this process holds."""
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


def load_divided(
    model: Model, config: TrainConfig, tokenizer: Tokenizer, settings: dict[str, Any],
    device: torch.device,
) -> Model:  # fmt: skip
    """Divide ``model``, which is on meta, for zero3; every process reads the part that it holds.

    A checkpoint that cannot be read in parts is read by the first process for all others.
    """
    stored = find_weights(config.model_name_or_path, model)
    if isinstance(stored, str):
        say(f"the first process reads the whole model in float32, since {stored}")
        if is_main_process():
            model = load_trainable(config, tokenizer, torch.device("cpu"))
    model.to(arithmetic(config))
    for name, weight in list(model.named_parameters()):
        # DeepSpeed divides what is in memory, so one weight at a time is whole. It begins by
        # copying the first process's to the others, which means nothing unless it was read.
        whole = nn.Parameter(torch.empty_like(weight, device=device)) if weight.is_meta else weight
        deepspeed.zero.Init(module=nn.ParameterList([whole]), config_dict_or_path=settings)
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, whole)
    model.tie_weights()
    if isinstance(stored, StoredWeights):
        read_weights(model, stored)
    return model


def load_copy(
    model: Model, config: TrainConfig, tokenizer: Tokenizer, _: dict[str, Any],
    device: torch.device,
) -> Model:  # fmt: skip
    """Read the whole of ``model``, which is on meta, for zero2, straight to ``device``.

    Raises UserError if the processes would read more than the machine's memory holds, because the
    checkpoint cannot be read in slices.
    """
    stored = find_weights(config.model_name_or_path, model)
    if isinstance(stored, StoredWeights):
        materialize(model.to(arithmetic(config)), stored, device)
        return model
    say(f"every process reads the whole model in float32, since {stored}")
    check_host_memory(4 * model.num_parameters() * local_world_size())
    return load_trainable(config, tokenizer, torch.device("cpu"))


def arithmetic(config: TrainConfig) -> torch.dtype:
    """Return the precision of weights from which DeepSpeed makes its float32 masters."""
    return torch.bfloat16 if config.precision == "bf16" else torch.float32


def check_host_memory(n_bytes: int) -> None:
    """Raise UserError if this machine has less memory than zero2's processes would read into it."""
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if n_bytes > room:
        raise UserError(
            f"--sharding zero2 reads the whole model on each of {local_world_size()} processes, "
            f"{n_bytes / 2**30:,.1f} GiB of this machine's {room / 2**30:,.1f}; use --sharding "
            "fsdp, which reads it once"
        )


def deepspeed_config(config: TrainConfig) -> dict[str, Any]:
    """Return the settings of ``config.sharding``, completed with those of the command line."""
    settings = deepspeed_settings(config.sharding)
    settings["bf16"]["enabled"] = config.precision == "bf16"
    return settings | {
        # packing.plan_step divides the examples; DeepSpeed must only not count them itself
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.max_grad_norm,
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": 2**31,
    }
