"""From the synthesized templates to a deployment in moto: nothing dropped, nothing skipped in silence."""
