"""The network: LLaVA-OneVision in plain torch, with its config, its weights and the ways of reading through it."""
