"""Train on one or several processes with torch's own ``fully_shard``: none, ddp and fsdp.

The three are one mechanism with different meshes: a process holds float32 master weights, and a
running layer gets a copy in the precision of the arithmetic. ``ddp`` divides nothing; ``fsdp``
divides weights, gradients and optimizer state among the processes. CPUs and GPUs run the same code,
so the tests cover the code that runs on a cluster.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import GenerationConfig

from screl.core.io import UserError
from screl.models.loading import Model, empty_model, fit_vocabulary, load_model
from screl.models.tokenizer import Tokenizer
from screl.training.config import TrainConfig
from screl.training.model import (
    PACKED_ATTENTION,
    Batch,
    PackedLM,
    decoder_layers,
    evaluating,
    turn_dropout_off,
    use_liger,
)
from screl.training.processes import say
from screl.training.weights import StoredWeights, find_weights, read_weights


def load_trainable(config: TrainConfig, tokenizer: Tokenizer, device: torch.device) -> Model:
    """Return the base model in float32, with packed attention and an embedding for every token.

    On the meta device, where every engine begins, the model has no weights.
    """
    name, on_meta = config.model_name_or_path, device.type == "meta"
    if on_meta:
        model = empty_model(name, PACKED_ATTENTION).float()
        with suppress(OSError):  # many models have no generation_config.json
            model.generation_config = GenerationConfig.from_pretrained(name)
    else:
        model = load_model(name, torch.float32, PACKED_ATTENTION)
    grown = fit_vocabulary(model, tokenizer)
    if grown and on_meta:
        say(grown)
    dropout = turn_dropout_off(model)
    if dropout and on_meta:
        named = ", ".join(f"{name} {p:g}" for name, p in dropout.items())
        say(f"dropout is off in training, though the model's config has {named}")
    use_liger(model)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


class TorchEngine:
    """A model and its optimizer, divided among processes by torch."""

    def __init__(self, config: TrainConfig, tokenizer: Tokenizer, device: torch.device) -> None:
        """Divide the base model; every process reads the part that it will hold.

        A checkpoint that cannot be read in parts is read by the first process for all others.
        """
        model = load_trainable(config, tokenizer, torch.device("meta"))
        stored = find_weights(config.model_name_or_path, model)
        if isinstance(stored, str):
            say(f"the first process reads the whole model in float32, since {stored}")
            if dist.get_rank() == 0:
                model = load_trainable(config, tokenizer, torch.device("cpu"))
        self.packed = PackedLM(model)
        self.device = device
        self.copies = config.sharding != "fsdp"
        self.max_grad_norm = config.max_grad_norm or math.inf  # 0: not clipped, as in DeepSpeed
        broadcast = isinstance(stored, str)
        shard_model(self.packed, config.sharding, config.precision, device, broadcast)
        if isinstance(stored, StoredWeights):
            materialize(self.packed.model, stored, device)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.packed), lr=config.learning_rate,
            weight_decay=config.weight_decay, fused=True,
        )  # fmt: skip

    def add_gradients(self, batches: Sequence[Batch]) -> list[torch.Tensor]:
        """Run all micro-batches of a step forward and backward; return their losses.

        The losses are on this process's device. The gradients of all processes are summed.
        """
        losses, sharded = [], cast(FSDPModule, self.packed)
        for number, batch in enumerate(batches, start=1):
            # Gradients that every process holds whole are added up between processes only once.
            # With fsdp each micro-batch's are divided at once, since whole ones need the room.
            sharded.set_requires_all_reduce(not self.copies or number == len(batches))
            loss = self.packed(batch.to(self.device))
            # fully_shard takes the mean over processes
            (loss * dist.get_world_size()).backward()
            losses.append(loss.detach())
        return losses

    def losses(self, batches: Sequence[Batch]) -> list[torch.Tensor]:
        """Return the losses of ``batches``, without dropout or gradients."""
        with evaluating(self.packed):
            losses = [self.packed(batch.to(self.device)) for batch in batches]
        for module in self.packed.modules():
            if isinstance(module, FSDPModule):  # which the backward pass would do otherwise
                module.reshard()
        return losses

    def step(self, learning_rate: float) -> float:
        """Clip, update and clear the gradients; return their norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.packed.parameters(), self.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(_whole(norm))

    def learning_rate(self) -> float:
        """Return the learning rate of the running optimizer."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state; every process writes its part."""
        state_dict_saver.save(self._state(), checkpoint_id=folder)

    def load(self, folder: Path) -> None:
        """Load what ``save`` wrote, on any number of processes."""
        state = self._state()
        state_dict_loader.load(state, checkpoint_id=folder)
        set_state_dict(
            self.packed, self.optimizer,
            model_state_dict=state["model"], optim_state_dict=state["optimizer"],
        )  # fmt: skip

    def _state(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.packed, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the name and the whole float32 master of each weight.

        All processes must iterate together.
        """
        for module in self.packed.modules():
            if isinstance(module, FSDPModule):  # a forward pass leaves copies in bf16 in place
                module.reshard()
        for name, weight in self.packed.model.named_parameters():
            yield name, _whole(weight.detach())

    def numbers_held(self) -> dict[str, int]:
        """Return how many weights, gradients and optimizer values this process holds."""
        weights = list(self.packed.parameters())
        moments = [
            value
            for state in self.optimizer.state.values()
            for value in state.values()
            if value.dim() > 0
        ]
        return {
            "weights": sum(_local(weight).numel() for weight in weights),
            "gradients": sum(_local(w.grad).numel() for w in weights if w.grad is not None),
            "optimizer": sum(_local(moment).numel() for moment in moments),
        }


if TYPE_CHECKING:
    from screl.training.deepspeed import DeepSpeedEngine

    TrainingEngine: TypeAlias = TorchEngine | DeepSpeedEngine


def make_training_engine(
    config: TrainConfig, tokenizer: Tokenizer, device: torch.device
) -> "TrainingEngine":
    """Return the engine for ``config.sharding``, with the base model loaded.

    Raises UserError if the model cannot be trained, or if DeepSpeed is needed but not installed.
    """
    if not config.sharding.startswith("zero"):
        return TorchEngine(config, tokenizer, device)
    if not find_spec("deepspeed"):
        raise UserError(
            f"--sharding {config.sharding} needs DeepSpeed (pip install deepspeed==0.19.8); "
            "fsdp divides as much as zero3 without it"
        )
    from screl.training.deepspeed import DeepSpeedEngine

    return DeepSpeedEngine(config, tokenizer, device)


def shard_model(
    packed: PackedLM, sharding: str, precision: str, device: torch.device, broadcast: bool
) -> None:
    """Divide the weights layer by layer, so a process holds at most one layer beyond its part.

    With ``broadcast`` the first process has the weights and the others receive them.
    """
    world_size = dist.get_world_size()
    if sharding == "fsdp":
        mesh = init_device_mesh(device.type, (world_size,))
    else:  # a copy on each process, divided into one part
        mesh = init_device_mesh(device.type, (world_size, 1), mesh_dim_names=("copy", "part"))
    bf16 = precision == "bf16"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # it would round the weights in the loss
    )
    model = packed.model
    for layer in decoder_layers(model):
        if broadcast:
            broadcast_weights(layer, device)
        # Weights that are not divided need not be freed after the forward pass.
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=sharding == "fsdp")
    if broadcast:
        broadcast_weights(model, device)
    model.tie_weights()
    fully_shard(packed, mesh=mesh, mp_policy=policy)
    set_buffers(model, dict(model.named_buffers()), device)


def broadcast_weights(module: nn.Module, device: torch.device) -> None:
    """Copy the first process's weights, in float32, to every process's device."""
    for name, weight in list(module.named_parameters()):
        if isinstance(weight, DTensor):  # in a layer that is divided already
            continue
        full = torch.empty(weight.shape, dtype=torch.float32, device=device)
        if dist.get_rank() == 0:
            full.copy_(weight)
        dist.broadcast(full, src=0)
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, nn.Parameter(full))


def materialize(model: Model, stored: StoredWeights, device: torch.device) -> None:
    """Give a model on meta, which may be divided, this process's part of the stored weights."""
    buffers = dict(model.named_buffers())  # of these only the weights are on meta
    model.to_empty(device=device)
    model.tie_weights()
    set_buffers(model, buffers, device)
    read_weights(model, stored)


def set_buffers(model: Model, buffers: dict[str, torch.Tensor], device: torch.device) -> None:
    """Give ``model`` these buffers, as those of the rotary embedding, on ``device``."""
    for name, buffer in buffers.items():
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, buffer.to(device))


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices decay, norms and biases do not, as in HF's Trainer."""
    weights = list(module.parameters())
    # ds_shape: a weight divided by DeepSpeed's zero3 has no shape of its own
    flat = [len(getattr(weight, "ds_shape", weight.shape)) < 2 for weight in weights]
    return [
        {"params": [weight for weight, is_flat in zip(weights, flat, strict=True) if not is_flat]},
        {
            "params": [weight for weight, is_flat in zip(weights, flat, strict=True) if is_flat],
            "weight_decay": 0.0,
        },
    ]


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole of a divided tensor, or any other tensor unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
