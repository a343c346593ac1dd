"""`confide privacy`: what differential privacy costs and gives; all but `sweep` ask nobody, and nothing leaves this machine."""

from __future__ import annotations

import typer

from parties.cli.privacy_ablate import ablate, ablation
from parties.cli.privacy_attack import attack
from parties.cli.privacy_check import check
from parties.cli.privacy_choose import account, choose
from parties.cli.privacy_forecast import forecast
from parties.cli.privacy_sweep import sweep
from parties.cli.privacy_tables import tables

app = typer.Typer(help="Choose and account the noise of private trainings, and judge their evidence.", no_args_is_help=True)
app.command("choose")(choose)
app.command("account")(account)
app.command("check")(check)
app.command("forecast")(forecast)
app.command("sweep")(sweep)
app.command("ablate")(ablate)
app.command("ablation")(ablation)
app.command("attack")(attack)
app.command("tables")(tables)
