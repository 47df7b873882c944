"""S3 options from the places where AWS's own tools look."""

from __future__ import annotations

from pathlib import Path

import pytest

from tesk.storage import S3Options, StorageOptions
from tesk.storage.aws import s3_options


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = default-key\naws_secret_access_key = default%secret\n"
        "[lab]\naws_access_key_id=lab-key\naws_secret_access_key=lab=secret\naws_session_token=lab-token\n"
    )
    (tmp_path / ".aws/config").write_text(
        "[default]\nregion = eu-west-1\n"
        "# a comment\n"
        "[profile lab]\nregion = eu-central-1\nendpoint_url = https://s3.lab.example\n"
        "[profile dept]\nservices = ceph\n"
        "[services ceph]\ns3 =\n  endpoint_url = http://ceph.example:7480\n"
    )
    return tmp_path


def test_nothing_at_all_is_anonymous(tmp_path: Path) -> None:
    assert s3_options({"HOME": str(tmp_path)}) == S3Options()
    assert s3_options({}) == S3Options()


def test_variables_alone(tmp_path: Path) -> None:
    found = s3_options(
        {
            "HOME": str(tmp_path),
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_SESSION_TOKEN": "t",
            "AWS_DEFAULT_REGION": "eu-north-1",
            "AWS_ENDPOINT_URL": "http://one.example",
        }
    )
    assert found == S3Options("http://one.example", "eu-north-1", "k", "s", "t")


def test_default_profile(home: Path) -> None:
    assert s3_options({"HOME": str(home)}) == S3Options(None, "eu-west-1", "default-key", "default%secret")


def test_named_profile(home: Path) -> None:
    found = s3_options({"HOME": str(home), "AWS_PROFILE": "lab"})
    assert found == S3Options("https://s3.lab.example", "eu-central-1", "lab-key", "lab=secret", "lab-token")


def test_endpoint_from_a_services_section(home: Path) -> None:
    found = s3_options({"HOME": str(home), "AWS_PROFILE": "dept"})
    assert found.endpoint == "http://ceph.example:7480"
    assert found.access_key_id is None


def test_variables_win_over_the_profile_and_never_mix_keys(home: Path) -> None:
    found = s3_options(
        {
            "HOME": str(home),
            "AWS_PROFILE": "lab",
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "us-west-2",
            "AWS_ENDPOINT_URL": "http://one.example",
            "AWS_ENDPOINT_URL_S3": "http://two.example",
        }
    )
    assert found == S3Options("http://two.example", "us-west-2", "k", "s", None)


def test_files_elsewhere(home: Path, tmp_path: Path) -> None:
    (tmp_path / "c").write_text("[default]\naws_access_key_id=x\naws_secret_access_key=y\n")
    (tmp_path / "f").write_text("[default]\nregion=ca-central-1\n")
    found = s3_options(
        {
            "HOME": str(home),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "c"),
            "AWS_CONFIG_FILE": str(tmp_path / "f"),
        }
    )
    assert found == S3Options(None, "ca-central-1", "x", "y")


def test_credentials_that_the_platform_gives(tmp_path: Path) -> None:
    assert s3_options({"HOME": str(tmp_path), "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}).ambient


def test_a_profile_that_is_not_there_is_said(home: Path) -> None:
    with pytest.raises(ValueError, match="AWS_PROFILE is 'nope'"):
        s3_options({"HOME": str(home), "AWS_PROFILE": "nope"})


def test_a_broken_file_is_said(home: Path) -> None:
    (home / ".aws/config").write_text("region = eu-west-1\n")
    with pytest.raises(ValueError, match=r"\.aws/config cannot be read"):
        s3_options({"HOME": str(home)})


def test_options_from_the_environment_hide_their_secrets(home: Path) -> None:
    options = StorageOptions.from_environment({"HOME": str(home), "AWS_PROFILE": "lab"}, file_roots=["/data"])
    assert options.file_roots == ("/data",)
    assert "lab=secret" not in repr(options)
    assert "lab-token" not in repr(options)
