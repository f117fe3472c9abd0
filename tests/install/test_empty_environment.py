"""trainprof from its wheel, in an environment without torch, outside the checkout."""

import json
import re

import jsonschema
import pytest


@pytest.fixture(scope="module")
def commands(tool, checked, tmp_path_factory):
    """Names of the registered commands, read from the help."""
    text = checked([tool / "trainprof", "--help"], tmp_path_factory.mktemp("help"))
    return re.findall(r"^  (\w+)  ", text.partition("Commands:")[2], re.MULTILINE)


def test_torch_is_really_absent(tool, execute, tmp_path):
    result = execute([tool / "python", "-c", "import torch"], tmp_path)
    assert "No module named 'torch'" in result.stderr


def test_every_command_has_its_help(commands, tool, checked, tmp_path):
    assert {"run", "diagnose", "runs", "schema"} <= set(commands)
    for command in commands:
        text = checked([tool / "trainprof", command, "--help"], tmp_path)
        assert text.startswith(f"Usage: trainprof {command}")


def test_runs_as_a_module(tool, checked, tmp_path):
    script = checked([tool / "trainprof", "--help"], tmp_path)
    assert checked([tool / "python", "-m", "trainprof", "--help"], tmp_path) == script


def test_the_catalogue_is_found(commands, tool, checked, tmp_path):
    text = checked([tool / "trainprof", "rules"], tmp_path)
    assert "data-workers-under" in text
    page = checked([tool / "trainprof", "rules", "data-workers-under"], tmp_path)
    assert "When it is wrong" in page


def test_the_doctor_speaks(commands, tool, checked, tmp_path):
    assert checked([tool / "trainprof", "doctor"], tmp_path).strip()


def test_the_schema_is_a_schema(tool, checked, tmp_path):
    schema = json.loads(checked([tool / "trainprof", "schema"], tmp_path))
    jsonschema.Draft202012Validator.check_schema(schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema)


def test_the_demo_without_torch_says_what_to_install(tool, execute, tmp_path):
    result = execute([tool / "trainprof", "demo"], tmp_path, PATH=f"{tool}:/usr/bin:/bin")
    assert result.returncode == 2
    assert "pip install torch" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_public_functions_do_nothing_without_a_run(tool, checked, tmp_path):
    script = tmp_path / "loop.py"
    script.write_text(
        "import trainprof\n"
        "with trainprof.phase('forward'):\n    print('inside')\n"
        "trainprof.step()\n"
    )
    assert checked([tool / "python", script], tmp_path) == "inside\n"


def test_a_type_checker_sees_the_package(tool, checked, tmp_path):
    code = (
        "import trainprof, pathlib;"
        "print((pathlib.Path(trainprof.__file__).parent / 'py.typed').is_file())"
    )
    assert checked([tool / "python", "-c", code], tmp_path) == "True\n"
