"""AgentArk core: debate, extraction, distillation and the ledger.

Importing this package costs nothing heavy: ray, vllm, torch, trl, deepspeed, prefect and mlflow are
imported only inside the functions and adapter modules that use them.
"""

__version__ = "0.1.0"
