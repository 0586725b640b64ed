"""The nightly fetch: plan, fetch, judge, load and report, each a step that may die and be run again."""
