"""The operator command ``gjeldsbro``: institutions, receivers, runs, look-ups and what is needed to try them out.

It works on a deployed stack through its outputs. Whatever changes or discloses something leaves a trail record of who,
when, what and why.
"""
