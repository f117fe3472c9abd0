"""What a rule's page says of its confirmation is what the tests and the zoo show."""

import importlib.util
from pathlib import Path

from trainprof.rules.catalogue import catalogue
from trainprof.rules.pages import confirmed_on


def gathered():
    place = Path(__file__).with_name("confirmations.py")
    spec = importlib.util.spec_from_file_location("confirmations", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_shipped_is_up_to_date():
    """`python tests/gates/confirmations.py` writes it."""
    module = gathered()
    assert module.SHIPPED.read_text(encoding="utf-8") == module.text()


def test_only_rules_that_exist_are_confirmed():
    assert set(gathered().confirmed()) <= {rule.id for rule in catalogue()}


def test_pages_tell_where():
    told = {rule.id: confirmed_on(rule) for rule in catalogue()}
    assert told["data-workers-under"] == "trainings on the CPU"
    assert told["kern-launch-bound"] == "recorded traces only"
    assert told["mem-swap"] == "its own built cases only"
