"""The command line as tests call it."""

from click.testing import CliRunner

from transfer_risk.cli import main


def run(*words):
    """Result of `transfer-risk` with these words."""
    return CliRunner().invoke(main, [str(w) for w in words])
