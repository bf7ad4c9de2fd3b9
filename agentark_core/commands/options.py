"""Options that commands of several modules share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Option("--home", help="Folder of the ledger, models and MLflow database.")]
DEFAULT_HOME = Path("agentark-home")
