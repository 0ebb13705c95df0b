"""`spotkeeper doctor`: is what a deployed environment needs of its account there, and set as it should be?

One file holds one check; `checkup` lists them. A check reads, and changes nothing: docs/identity.md lists the actions.
"""
