import pytest

from tregflow.errors import StudyError
from tregflow.study import StudyFile, TubeRules, find_study, load_study

FULL = r"""
[study]
id = "NCT04062019"
title = "Low-dose IL-2 in myositis"

[template]
id = "treg-foxp3-pbmc"
version = "0.1.0"

[tubes]
pattern = '(?P<subject>S\d+)_(?P<visit>\w+)'
keywords = { batch = "EXPERIMENT NAME" }
roles = { "FMO-FOXP3" = "fmo:FOXP3" }
"""


def study(folder, text):
    path = folder / "study.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_load_study(tmp_path):
    for text in (FULL, FULL.replace("\n", "\r\n"), b"\xef\xbb\xbf" + FULL.encode()):
        loaded = load_study(study(tmp_path, text))
        assert loaded.study is not None
        assert loaded.study.id == "NCT04062019"
        assert loaded.template is not None
        assert (loaded.template.id, loaded.template.version) == ("treg-foxp3-pbmc", "0.1.0")
        assert loaded.tubes == TubeRules(
            pattern=r"(?P<subject>S\d+)_(?P<visit>\w+)",
            keywords={"batch": "EXPERIMENT NAME"},
            roles={"FMO-FOXP3": "fmo:FOXP3"},
        )
    assert load_study(study(tmp_path, "")) == StudyFile()


def test_every_problem_with_its_place(tmp_path):
    text = """
    [template]
    id = "Treg FOXP3"
    verson = "1.0.0"
    [tubes]
    pattern = 5
    keywords = { patient = "ID" }
    [[visits]]
    nam = "W12"
    [plots]
    """
    with pytest.raises(StudyError, match=r"STUDY_FILE_INVALID: study.toml") as caught:
        load_study(study(tmp_path, text))
    message = str(caught.value)
    assert "template.id: expected a letter, then letters, digits and -, all small" in message
    assert "found 'Treg FOXP3'" in message
    assert "template.version: required, and not there." in message
    assert "template.verson: unknown key (did you mean version?); known are id, version" in message
    assert "tubes.pattern: expected a text in quotes; found 5." in message
    assert "tubes.keywords.patient" in message
    assert "visits.0.name: required, and not there." in message
    assert "visits.0.nam: unknown key (did you mean name?); known are name, baseline" in message
    assert "plots: unknown key; known are study, template, tubes" in message
    assert len(caught.value.data["problems"]) == 8


def test_a_problem_of_the_model_hides_no_rule_that_cannot_be_used(tmp_path):
    text = "[template]\nid = 'treg'\n[tubes]\npattern = '('"
    with pytest.raises(StudyError, match=r"template.version: required[\s\S]*tubes.pattern: '\(' is not a regular"):
        load_study(study(tmp_path, text))
    with pytest.raises(StudyError, match=r"template: expected a table of keys and values; found 'treg@1.0.0'\."):
        load_study(study(tmp_path, "template = 'treg@1.0.0'"))


@pytest.mark.parametrize("version", ["1.0", "latest", ">=1.0.0", "1.0.0 "])
def test_a_pin_is_one_version(tmp_path, version):
    with pytest.raises(StudyError, match=r"STUDY_FILE_INVALID[\s\S]*template.version"):
        load_study(study(tmp_path, f'[template]\nid = "treg"\nversion = "{version}"\n'))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tubes]\npattern = '('", r"tubes.pattern: '\(' is not a regular expression"),
        ("[tubes]\nroles = { full = 'all' }", "tubes.roles: 'full' stands for the unknown role 'all'"),
    ],
)
def test_rules_are_checked_when_the_file_is_loaded(tmp_path, text, expected):
    with pytest.raises(StudyError, match=rf"STUDY_FILE_INVALID[\s\S]*{expected}"):
        load_study(study(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[template\n", r"is not TOML: .*line 1"),
        ("id = 1\nid = 2\n", "is not TOML: .*line 2"),
        ("title = 'ä'".encode("latin-1"), r"is not UTF-8 text \(byte 0xE4 in line 1, column 10\)"),
    ],
)
def test_unreadable(tmp_path, text, expected):
    with pytest.raises(StudyError, match=f"STUDY_FILE_UNREADABLE: study.toml {expected}"):
        load_study(study(tmp_path, text))


def test_missing(tmp_path):
    with pytest.raises(StudyError, match=r"STUDY_FILE_UNREADABLE: study.toml: No such file"):
        load_study(tmp_path / "study.toml")


def test_the_nearest_study_file_is_found(tmp_path):
    batch = tmp_path / "study" / "batch"
    batch.mkdir(parents=True)
    assert find_study(batch) is None
    above = study(tmp_path, "")
    assert find_study(batch) == above
    near = study(batch.parent, "")
    assert find_study(batch) == near
    assert find_study(study(batch, "").parent) == batch / "study.toml"
