"""Policy engine, rollouts, GRPO, adapters and their composition."""
