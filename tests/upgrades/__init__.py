"""What an upgrade must not do: replace what is stateful or in use, or change the ledger without saying so.

`releases/` holds the templates and the ledger's schema of the last release; `make release-templates` writes them anew.
"""
