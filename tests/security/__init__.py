"""The security gate over synthesized templates: `python -m tests.security` (`make security` runs it with the scanners).

`house_rules` holds what cdk-nag, CDK's validation and cfn-lint miss, a rule a function; `iam` judges every policy with
every reference resolved; `acknowledgements` keeps exceptions from cdk-nag honest.
"""
