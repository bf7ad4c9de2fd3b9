"""PPO (Eq. 8-9): the rollouts, rewards and clipped objective of grpo_trainer, advantages from a learned value function.

Imports TRL at the top: import this module only inside a training process.

L = L_clip + value_weight * L_value (Schulman et al., arXiv 1707.06347, Eq. 9), with GRPO's KL term, so that the two
differ in the advantage alone. Values and advantages are those of the policy that sampled, however many optimiser steps
a rollout batch gets; advantages are standardised over its tokens.
"""

from __future__ import annotations

from typing import Any

import torch

from agentark_core.training.grpo_trainer import PolicyTrainer
from agentark_core.training.value import HEAD, ValueHead, gae, value_loss


class ValueTrainer(PolicyTrainer):
    """PolicyTrainer with a value head on the policy: one engine, one optimiser and one checkpoint for both."""

    def __init__(self, *, model: Any, **kwargs: Any) -> None:
        super().__init__(model=model, **kwargs)
        self._policy = model
        self._head = ValueHead(model.config.get_text_config().hidden_size)
        self._policy.add_module(HEAD, self._head)
        self._values: Any = None
        """Of the policy's last forward pass over completions, (completions, tokens)."""

    def create_optimizer(self, model: Any = None) -> Any:
        """The head has a learning rate of its own: it begins at nothing, the policy does not."""
        optimizer = super().create_optimizer(model)
        head = list(self._head.parameters())
        for group in optimizer.param_groups:
            group["params"] = [weight for weight in group["params"] if all(weight is not one for one in head)]
        optimizer.add_param_group({"params": head, "lr": self._config.value_learning_rate, "weight_decay": 0.0})
        return optimizer

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        # The engine takes over whatever weights the policy has, and knows no value head.
        self._policy._modules.pop(HEAD)
        try:
            return super()._generate_single_turn(*args, **kwargs)
        finally:
            self._policy.add_module(HEAD, self._head)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        # Within the policy's own forward pass, where ZeRO-3 gathers the head's weights. The reference has no hook.
        chunks: list[Any] = []
        hook = self._policy.base_model.register_forward_hook(
            lambda module, inputs, output: chunks.append(self._head(output.last_hidden_state))
        )
        try:
            found = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
            )
        finally:
            hook.remove()
        if chunks:  # the state before a token is that of the position before it
            self._values = torch.cat(chunks)[:, -logits_to_keep - 1 : -1]
        return found

    def _add_advantages(self, output: dict[str, Any]) -> None:
        mask = output["completion_mask"]
        if "old_per_token_logps" not in output:  # else these were the policy's last forward pass
            ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
            attention = torch.cat([output["prompt_mask"], mask], dim=1)
            with torch.no_grad():
                self._get_per_token_logps_and_entropies(
                    self.model, ids, attention, mask.shape[1], batch_size=self._config.micro_batch_size
                )
        values = self._values
        known = torch.tensor([total is not None for total in self._totals], device=mask.device)
        rewards = torch.tensor([total or 0.0 for total in self._totals], device=mask.device)
        learned = mask.bool() & known[:, None]
        raw = gae(rewards, values, learned, gae_lambda=self._config.gae_lambda)
        mean, std = self._moments(raw, learned)
        output["returns"] = raw + values
        output["learned"] = learned
        output["advantages"] = (raw - mean) / (std + 1e-8) * learned
        spread = self._moments(output["returns"], learned)[1]
        self._metrics["train"]["value_explained"].append(1 - (std / spread) ** 2 if spread else 0.0)

    def _moments(self, values_BT: Any, mask_BT: Any) -> tuple[float, float]:
        """Mean and standard deviation over the tokens of the mask, of all processes; 0 and 0 if there are none."""
        chosen = values_BT[mask_BT].double()
        sums = torch.stack([chosen.sum(), chosen.square().sum(), chosen.new_tensor(chosen.numel())])
        total, squares, number = self.accelerator.reduce(sums, reduction="sum").tolist()
        mean = total / max(1, number)
        return mean, max(0.0, squares / max(1, number) - mean**2) ** 0.5

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        policy_loss = super()._compute_loss(model, inputs)
        loss = value_loss(self._values, inputs["returns"], inputs["learned"])
        self._metrics["train"]["value_loss"].append(self.accelerator.gather(loss.detach()).mean().item())
        return policy_loss + self._config.value_weight * loss / self.current_gradient_accumulation_steps
