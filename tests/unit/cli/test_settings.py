import pytest

from trainprof.cli.settings import load_settings
from trainprof.errors import UsageError


def write(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text)


def test_nothing_set(tmp_path):
    settings = load_settings(tmp_path, {})
    assert (settings.select, settings.ignore, settings.fail_on) == ((), (), None)


def test_the_nearest_file_with_a_table_counts(tmp_path):
    write(tmp_path, '[tool.trainprof]\nignore = ["loop-gc"]\nfail-on = "critical"\n')
    write(tmp_path / "package", "[tool.ruff]\nline-length = 100\n")
    settings = load_settings(tmp_path / "package", {})
    assert settings.ignore == ("loop-gc",)
    assert settings.fail_on == "critical"


def test_a_variable_wins_over_the_file(tmp_path):
    write(tmp_path, '[tool.trainprof]\nselect = ["a"]\nignore = ["b"]\nfail-on = "warn"\n')
    environment = {"TRAINPROF_SELECT": "c, d", "TRAINPROF_IGNORE": "", "TRAINPROF_FAIL_ON": ""}
    settings = load_settings(tmp_path, environment)
    assert (settings.select, settings.ignore, settings.fail_on) == (("c", "d"), (), None)


def test_prices(tmp_path):
    write(tmp_path, '[tool.trainprof]\nprice-per-hour = 2\ncurrency = "EUR"\npue = 1.2\n')
    settings = load_settings(tmp_path, {})
    assert (settings.price_per_hour, settings.currency, settings.pue) == (2.0, "EUR", 1.2)
    assert settings.grid_gco2_per_kwh is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[tool.trainprof]\nselct = ["a"]\n', "selct"),
        ('[tool.trainprof]\nselect = "a"\n', "select"),
        ('[tool.trainprof]\nfail-on = "always"\n', "always"),
        ("[tool.trainprof]\nprice-per-hour = -1\n", "price-per-hour"),
        ("[tool.trainprof]\npue = 0.5\n", "pue"),
        ("not toml [\n", "line 1"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_sentence(tmp_path, text, named):
    write(tmp_path, text)
    with pytest.raises(UsageError, match=named) as raised:
        load_settings(tmp_path, {})
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "pyproject.toml") in str(raised.value)


def test_a_variable_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(UsageError, match="TRAINPROF_FAIL_ON"):
        load_settings(tmp_path, {"TRAINPROF_FAIL_ON": "info"})
